#!/bin/sh
# Install one distribution into /opt/safevideo, with its pinned requirements, and list all packages in an SBOM.
# Usage, in a stage of the Dockerfile: sh install.sh services/gateway
set -eu
python tools/requirements.py libs/common "$1" > needed.txt
$PIP install --require-hashes --only-binary :all: -c tools/constraints.txt -r needed.txt
/opt/pip/bin/pip wheel --disable-pip-version-check --no-build-isolation --no-deps --wheel-dir wheels "./$1"
$PIP install --no-deps wheels/*.whl
# Extension modules come with the symbols of a debugger, a fifth of the image. Libraries in *.libs are packed too, and stay as they are.
packages=$(echo /opt/safevideo/lib/python*/site-packages)
find "$packages" -name '*.so' -not -path '*.libs/*' -exec strip --strip-debug {} +
# Neither tests nor what a compiler or a type checker reads.
find "$packages" -type d -name tests -exec rm -r {} +
rm -rf "$packages"/*/testing
find "$packages" \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.h' \) -delete
# A read-only root cannot keep bytecode that is made at the first import.
/opt/safevideo/bin/python -m compileall -q /opt/safevideo/lib
/opt/sbom/bin/cyclonedx-py environment --output-reproducible --of JSON -o /opt/safevideo/sbom.cdx.json /opt/safevideo/bin/python
