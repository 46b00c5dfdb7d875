"""Every number that an operator sets has a least and a greatest value: no sum of it leaves what Python holds."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from gateway.settings import GatewaySettings
from kyc_worker.settings import KycWorkerSettings
from safevideo_common.settings import ProcessSettings
from sync_worker.settings import SyncWorkerSettings
from webhook_ingest.settings import IngestSettings

SERVICES = (IngestSettings, GatewaySettings, KycWorkerSettings, SyncWorkerSettings)
LONGEST_PERIOD = timedelta(days=36_525)
UNITS = {"days": timedelta(days=1), "seconds": timedelta(seconds=1)}


def numbers() -> Iterator[tuple[type[ProcessSettings], str, FieldInfo]]:
    for settings in SERVICES:
        for name, field in settings.model_fields.items():
            if field.annotation in (int, float):
                yield settings, name, field


@pytest.mark.parametrize(("settings", "name", "field"), [pytest.param(*each, id=each[1]) for each in numbers()])
def test_every_number_has_both_ends(settings: type[ProcessSettings], name: str, field: FieldInfo) -> None:
    least = [each for each in field.metadata if isinstance(each, Ge | Gt)]
    greatest = [each for each in field.metadata if isinstance(each, Le | Lt)]
    assert least, f"{settings.__name__}.{name} has no least value"
    assert greatest, f"{settings.__name__}.{name} has no greatest value"
    bound = greatest[0].le if isinstance(greatest[0], Le) else greatest[0].lt
    assert float(str(bound)) < 2**63
    for unit, length in UNITS.items():
        if unit in name.split("_"):
            assert length * float(str(bound)) <= LONGEST_PERIOD, "a time this far from now is out of range"
    assert not field.is_required()
    settings.__pydantic_validator__.validate_assignment(settings.model_construct(), name, field.default)
    for text in ("nan", "inf", "1e400", "9" * 400, "", "\0", "0x10"):
        with pytest.raises(ValueError):
            settings.__pydantic_validator__.validate_assignment(settings.model_construct(), name, text)
