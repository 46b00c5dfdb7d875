#!/bin/sh
# Install one distribution into /opt/safevideo, with its pinned requirements, and list all packages in an SBOM.
# Usage, in a stage of the Dockerfile: sh install.sh services/gateway
set -eu
python tools/requirements.py libs/common "$1" > needed.txt
$PIP install --require-hashes --only-binary :all: -c tools/constraints.txt -r needed.txt
/opt/pip/bin/pip wheel --disable-pip-version-check --no-build-isolation --no-deps --wheel-dir wheels "./$1"
$PIP install --no-deps wheels/*.whl
# A read-only root cannot keep bytecode that is made at the first import.
/opt/safevideo/bin/python -m compileall -q /opt/safevideo/lib
python -m venv /opt/sbom
/opt/sbom/bin/pip install --disable-pip-version-check --no-cache-dir --require-hashes -r sbom-requirements.txt
/opt/sbom/bin/cyclonedx-py environment --output-reproducible --of JSON -o /opt/safevideo/sbom.cdx.json /opt/safevideo/bin/python
