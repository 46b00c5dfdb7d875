"""JPEGs without metadata look the same, and their scans are counted as a decoder finds them."""

import io

import pytest
from PIL import Image

from gateway.documents.jpeg import clean_jpeg, clean_jpeg_2000, count_scans


def saved(mode: str, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = "planted-description"
    output = io.BytesIO()
    picture = Image.linear_gradient("L").convert(mode)
    picture.save(output, "JPEG", exif=exif, comment=b"planted-comment", icc_profile=b"planted", **options)
    return output.getvalue()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"keep_rgb": True}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_picture_looks_the_same_without_metadata(mode: str, options: dict[str, object]) -> None:
    document = saved(mode, **options) + b"planted-after-the-end"
    clean = clean_jpeg(document)
    assert b"planted" not in clean
    assert Image.open(io.BytesIO(clean)).tobytes() == Image.open(io.BytesIO(document)).tobytes()
    assert clean_jpeg(clean) == clean


@pytest.mark.parametrize(("mode", "scans"), [("L", 6), ("RGB", 10), ("CMYK", 18)])
def test_scans_of_the_usual_encoder_are_counted(mode: str, scans: int) -> None:
    assert count_scans(saved(mode, progressive=True), 24) == scans


def test_scans_behind_bytes_that_decoders_pass_over_are_counted() -> None:
    document = saved("RGB", progressive=True)
    last = document.rindex(b"\xff\xda")
    scan = document[last:-2]
    hidden = document[:-2] + (b"passed over" + b"\xff\x00\xff\xff\xff" + scan[1:]) * 9 + b"\xff\xd9"
    assert count_scans(hidden, 24) == 19
    assert count_scans(hidden, 12) == 13
    assert count_scans(b"\xff\xd8\xff\xda\xff\xff", 12) == 0


@pytest.mark.parametrize("document", [b"", b"\xff\xd8\xff\xe1\xff\xff", b"GIF89a"])
def test_what_is_no_jpeg_is_said(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"JPEG|cut off"):
        clean_jpeg(document)


@pytest.mark.parametrize(
    "document", [b"", b"\xff\x4f", b"\xff\x4f\xff\x51\xff\xff", b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x09ftyp"]
)
def test_what_is_no_jpeg_2000_is_said(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"JPEG|cut off"):
        clean_jpeg_2000(document)


@pytest.mark.parametrize("options", [{}, {"no_jp2": True}, {"irreversible": True, "tile_size": (64, 64)}])
def test_jpeg_2000_looks_the_same_without_metadata(options: dict[str, object]) -> None:
    output = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(output, "JPEG2000", comment="planted", **options)
    document = output.getvalue()
    assert b"planted" in document
    clean = clean_jpeg_2000(document)
    assert b"planted" not in clean
    assert Image.open(io.BytesIO(clean)).tobytes() == Image.open(io.BytesIO(document)).tobytes()
