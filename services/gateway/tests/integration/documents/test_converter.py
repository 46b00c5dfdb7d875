"""Uploaded documents: what comes out, and what a hostile one can do."""

import asyncio
import io
import os
import signal
import struct
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pikepdf
import pillow_heif
import pytest
import pytest_asyncio
from PIL import Image

from gateway.documents.converter import MAX_WAITING, ConverterProcess, DocumentConverter
from gateway.documents.converter_process import CONVERTERS, MAX_PIXELS, MAX_SCANS, RESIDENT_BYTES
from gateway.documents.kinds import CPU_SECONDS, DocumentKind, kind_of
from safevideo_common.errors import ServiceUnavailable, UnsupportedDocument
from safevideo_common.tasks import cancel_and_wait
from safevideo_testkit.eventually import eventually

pillow_heif.register_heif_opener()
in_one_loop = pytest.mark.asyncio(loop_scope="module")
"""One converter for all tests, since each has a process in reserve."""
ORIENTATION = 0x0112
TOP_LEFT = {1: (0, 0), 2: (1, 0), 3: (1, 1), 4: (0, 1), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}
"""Where the corner that belongs to the top left lies in the stored picture, by EXIF orientation: (right?, bottom?)."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def converter() -> AsyncIterator[DocumentConverter]:
    async with DocumentConverter.open() as opened:
        yield opened


def picture(size: tuple[int, int] = (96, 64), *, red: tuple[int, int] = (0, 0)) -> Image.Image:
    """Return a blue picture with one red quarter: `red` says whether it is on the right and at the bottom."""
    width, height = size
    image = Image.new("RGB", size, "blue")
    corner = (red[0] * width // 2, red[1] * height // 2)
    image.paste("red", (*corner, corner[0] + width // 2, corner[1] + height // 2))
    return image


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    output = io.BytesIO()
    image.save(output, kind, **options)
    return output.getvalue()


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def converted(document: bytes) -> bytes:
    """Return what the process would answer, without one."""
    kind = kind_of(document)
    assert kind is not None
    return CONVERTERS[kind](document)


def is_red_at_the_top_left(image: Image.Image) -> bool:
    width, height = image.size
    pixels = [image.convert("RGB").getpixel((x * width // 4, y * height // 4)) for y in (1, 3) for x in (1, 3)]
    return [isinstance(each, tuple) and each[0] > 128 for each in pixels] == [True, False, False, False]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "HEIF"])
def test_an_image_becomes_a_jpeg_inside_the_box(kind: str) -> None:
    content = converted(saved(picture((2200, 1200)), kind))
    image = opened(content)
    assert (image.format, image.size) == ("JPEG", (1920, 1047))


@pytest.mark.parametrize(
    ("size", "orientation", "expected"),
    [((4032, 3024), 1, (1440, 1080)), ((4032, 3024), 6, (810, 1080)), ((8640, 1080), 1, (1920, 240))],
)
def test_a_large_photo_is_scaled_by_its_decoder_to_no_less_than_its_size(
    size: tuple[int, int], orientation: int, expected: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = opened(converted(saved(picture(size, red=TOP_LEFT[orientation]), "JPEG", exif=exif)))
    assert image.size == expected
    assert is_red_at_the_top_left(image)


def test_a_small_image_is_not_enlarged() -> None:
    assert opened(converted(saved(picture((30, 20)), "PNG"))).size == (30, 20)


@pytest.mark.parametrize("orientation", TOP_LEFT)
@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_an_image_is_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    content = converted(saved(picture(red=TOP_LEFT[orientation]), kind, exif=exif, quality=95))
    image = opened(content)
    assert is_red_at_the_top_left(image)
    assert image.size == ((64, 96) if orientation >= 5 else (96, 64))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_heif_is_turned_once(orientation: int) -> None:
    """By its container, or by EXIF where the container says nothing: never by both."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    document = saved(picture(red=TOP_LEFT[orientation]), "HEIF", exif=exif, quality=95)
    with opened(document) as as_shown:  # the library obeys the container
        expected = as_shown.size if b"irot" in document or b"imir" in document else None
    image = opened(converted(document))
    assert is_red_at_the_top_left(image)
    assert image.size == (expected or ((64, 96) if orientation >= 5 else (96, 64)))


def test_no_metadata_is_left() -> None:
    exif = Image.Exif()
    exif[0x010E] = "planted-description"
    exif.get_ifd(0x8825)[1] = "planted-gps"
    document = saved(picture(), "JPEG", exif=exif, comment=b"planted-comment")
    content = converted(document)
    assert b"planted" in document
    assert b"planted" not in content
    assert dict(opened(content).getexif()) == {}


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (picture().convert("CMYK"), "JPEG"),
        (picture().convert("L"), "JPEG"),
        (picture().convert("P"), "PNG"),
        (Image.new("I;16", (40, 20), 60000), "PNG"),
        (Image.new("RGBA", (40, 20), (255, 0, 0, 0)), "PNG"),
    ],
)
def test_every_colour_mode_becomes_rgb(image: Image.Image, kind: str) -> None:
    assert opened(converted(saved(image, kind))).mode == "RGB"


def test_transparent_parts_are_white_and_sixteen_bits_keep_their_brightness() -> None:
    clear = converted(saved(Image.new("RGBA", (40, 20), (255, 0, 0, 0)), "PNG"))
    assert opened(clear).getpixel((10, 10)) == (255, 255, 255)
    deep = converted(saved(Image.new("I;16", (40, 20), 0x8000), "PNG"))
    assert opened(deep).getpixel((10, 10)) == (128, 128, 128)


def test_of_an_animation_the_first_frame_is_kept() -> None:
    frames = [picture(), Image.new("RGB", (96, 64), "green")]
    document = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], quality=95)
    assert is_red_at_the_top_left(opened(converted(document)))


@in_one_loop
async def test_a_repeated_document_gives_the_same_bytes(converter: DocumentConverter) -> None:
    for document in (saved(picture(), "PNG"), pdf()):
        assert (await converter.convert(document)) == (await converter.convert(document))


def bomb() -> bytes:
    """Return a small PNG that unfolds to 1,600 megapixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"MZ\x90\x00 a program", id="a program"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", id="SVG"),
        pytest.param(b"GIF89a" + bytes(100), id="GIF"),
        pytest.param(saved(picture(), "JPEG")[:200], id="truncated JPEG"),
        pytest.param(saved(picture(), "PNG")[:80], id="truncated PNG"),
        pytest.param(b"\xff\xd8\xff" + bytes(500), id="no JPEG after its first bytes"),
        pytest.param(b"RIFF\x10\x00\x00\x00WEBPVP8 " + bytes(40), id="no WebP"),
        pytest.param(b"\x00\x00\x00\x18ftypheic" + bytes(40), id="no HEIC"),
        pytest.param(b"%PDF-1.7\nnot a PDF", id="no PDF"),
        pytest.param(bomb(), id="decompression bomb"),
    ],
)
@in_one_loop
async def test_what_cannot_be_read_is_refused(converter: DocumentConverter, document: bytes) -> None:
    with pytest.raises(UnsupportedDocument):
        await converter.convert(document)


@in_one_loop
async def test_a_document_of_each_kind_is_converted_within_the_limits(converter: DocumentConverter) -> None:
    for kind in DocumentKind:
        document = pdf() if kind is DocumentKind.PDF else saved(picture(), kind.value)
        assert (await converter.convert(document)).content == converted(document)


def with_scans(count: int) -> bytes:
    """Return a progressive JPEG whose last scan is there again and again."""
    document = saved(picture((640, 480)), "JPEG", progressive=True)
    last = document.rindex(b"\xff\xda")
    return document[:last] + document[last:-2] * (count - 9) + b"\xff\xd9"


@in_one_loop
async def test_a_jpeg_with_many_scans_is_refused_before_it_is_decoded(converter: DocumentConverter) -> None:
    assert (await converter.convert(with_scans(MAX_SCANS))).content
    with pytest.raises(UnsupportedDocument, match="scans"):
        await converter.convert(with_scans(MAX_SCANS + 1))


@in_one_loop
async def test_a_picture_of_the_most_pixels_fits_the_memory_of_its_process(converter: DocumentConverter) -> None:
    """A WebP needs the most memory for a pixel, and it is not scaled while it is decoded."""
    largest = Image.new("RGBA", (4000, MAX_PIXELS[DocumentKind.WEBP] // 4000), (255, 0, 0, 9))
    assert (await converter.convert(saved(largest, "WEBP", lossless=True, method=0))).content
    too_large = Image.new("RGB", (4000, MAX_PIXELS[DocumentKind.WEBP] // 4000 + 1))
    with pytest.raises(UnsupportedDocument, match="pixels"):
        await converter.convert(saved(too_large, "WEBP", lossless=True, method=0))


@in_one_loop
async def test_a_process_that_waits_has_no_more_memory_than_is_counted_for_it(converter: DocumentConverter) -> None:
    converter.warm()
    spare = await converter._spare  # type: ignore[misc]
    assert resident_bytes(spare.pid) <= RESIDENT_BYTES


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@in_one_loop
async def test_an_answer_over_the_limit_is_none_and_is_not_read_to_its_end() -> None:
    program = (
        "import sys; o = sys.stdout.buffer; o.write(b'R'); o.flush(); sys.stdin.buffer.read(); o.write(bytes(1 << 30))"
    )
    process = await ConverterProcess.start((sys.executable, "-c", program))
    assert await process.ask(DocumentKind.PDF, b"a document") == b""
    assert process.is_running  # it has more to write
    await process.end()


@in_one_loop
async def test_the_death_of_a_process_refuses_its_own_document_only(converter: DocumentConverter) -> None:
    converter.warm()
    spare = await converter._spare  # type: ignore[misc]  # the process that gets the next document
    os.kill(spare.pid, signal.SIGSTOP)
    conversion = asyncio.create_task(converter.convert(saved(picture(), "PNG")))

    async def is_taken() -> bool:
        return converter._spare is None

    await eventually(is_taken)
    os.kill(spare.pid, signal.SIGKILL)
    with pytest.raises(UnsupportedDocument):
        await conversion
    assert (await converter.convert(saved(picture(), "PNG"))).content


@in_one_loop
async def test_a_spare_process_that_has_died_refuses_no_document(converter: DocumentConverter) -> None:
    converter.warm()
    spare = await converter._spare  # type: ignore[misc]
    os.kill(spare.pid, signal.SIGSEGV)
    await eventually(lambda: asyncio.sleep(0, not spare.is_running))
    assert (await converter.convert(saved(picture(), "PNG"))).content


@in_one_loop
async def test_an_upload_that_is_given_up_while_its_process_starts_leaves_no_process(
    converter: DocumentConverter,
) -> None:
    converter.warm()
    await converter._spare  # type: ignore[misc]  # so it starts no process meanwhile
    before = children()

    async def is_starting() -> bool:
        return children() > before

    async def none_is_left() -> bool:
        return children() == before

    async with DocumentConverter.open() as own:
        conversion = asyncio.create_task(own.convert(saved(picture(), "PNG")))
        await eventually(is_starting)
        await cancel_and_wait(conversion)
    await eventually(none_is_left)


def children() -> set[str]:
    """Return the process ids of the children of this process."""
    found = set[str]()
    for each in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found.update((each / "children").read_text().split())
    return found


@in_one_loop
async def test_a_process_has_no_environment_no_descriptors_and_hard_limits(
    converter: DocumentConverter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED", "secret")
    await converter.convert(saved(picture(), "PNG"))  # so the spare process was started after that
    converter.warm()
    spare = await converter._spare  # type: ignore[misc]
    proc = Path(f"/proc/{spare.pid}")
    limits = {line[:26].strip(): line[26:47].strip() for line in (proc / "limits").read_text().splitlines()[1:]}
    assert limits["Max open files"] == limits["Max core file size"] == limits["Max file size"] == "0"
    assert int(limits["Max cpu time"]) <= 2 * CPU_SECONDS  # the start counts too
    status = (proc / "status").read_text()
    assert "NoNewPrivs:\t1" in status
    if os.geteuid() == 0:  # another user may not look into a process that cannot be dumped
        assert (proc / "environ").read_bytes() == b""
        assert sorted(each.name for each in (proc / "fd").iterdir()) == ["0", "1", "2"]


def pdf(change: Callable[[pikepdf.Pdf], None] = lambda _: None, **options: object) -> bytes:
    document = pikepdf.new()
    document.add_blank_page()
    document.add_blank_page()
    change(document)
    output = io.BytesIO()
    document.save(output, **options)  # type: ignore[arg-type]
    return output.getvalue()


def test_a_pdf_keeps_its_pages_and_loses_metadata_attachments_scripts_and_actions() -> None:
    def plant(document: pikepdf.Pdf) -> None:
        document.docinfo["/Author"] = "planted-author"
        with document.open_metadata() as metadata:
            metadata["dc:title"] = "planted-title"
        document.attachments["a.txt"] = b"planted-attachment"
        action = pikepdf.Dictionary(S=pikepdf.Name.JavaScript, JS="planted-script")
        document.Root.OpenAction = action
        document.Root.Names["/JavaScript"] = pikepdf.Dictionary(Names=["x", action])
        document.pages[0]["/AA"] = pikepdf.Dictionary(O=action)
        note = pikepdf.Dictionary(Type=pikepdf.Name.Annot, Subtype=pikepdf.Name.Link, Rect=[0, 0, 9, 9], A=action)
        document.pages[0]["/Annots"] = document.make_indirect(pikepdf.Array([document.make_indirect(note)]))

    document = pdf(plant, compress_streams=False)
    content = converted(document)
    with pikepdf.open(io.BytesIO(content)) as clean:
        assert len(clean.pages) == 2
        flat = io.BytesIO()
        clean.save(flat, compress_streams=False, object_stream_mode=pikepdf.ObjectStreamMode.disable)
    assert b"planted" in document
    assert b"planted" not in flat.getvalue()


@in_one_loop
async def test_a_pdf_with_an_owner_password_alone_is_accepted_and_one_with_a_user_password_is_not(
    converter: DocumentConverter,
) -> None:
    owner = pdf(encryption=pikepdf.Encryption(owner="o", user=""))
    assert (await converter.convert(owner)).kind is DocumentKind.PDF
    with pytest.raises(UnsupportedDocument, match="password"):
        await converter.convert(pdf(encryption=pikepdf.Encryption(owner="o", user="u")))


def test_the_kind_is_that_of_the_content() -> None:
    assert kind_of(saved(picture(), "HEIF")[:64]) is DocumentKind.HEIF
    assert kind_of(b"\x00\x00\x00\x18ftypmp42") is None


async def test_too_many_waiting_documents_are_refused_at_once() -> None:
    async with DocumentConverter.open(concurrency=1) as converter:
        document = saved(picture(), "PNG")
        waiting = [asyncio.ensure_future(converter.convert(document)) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(ServiceUnavailable):
            await converter.convert(document)
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
