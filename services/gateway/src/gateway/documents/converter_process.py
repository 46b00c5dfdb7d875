"""The program that converts one document and ends. Its input is hostile, so it has nothing that is worth stealing.

It gets no environment, no arguments, and three descriptors: the document on stdin, the answer on stdout. Before it
reads a byte it gives up the right to open files or sockets, to dump its memory, and to use more than its share of
memory and time. Only the loader of the recognised kind is called. Whatever goes wrong ends this process alone.

Input: kind (8 bytes, padded with spaces), then the document until the end of stdin.
Output: one byte when it is ready, `R`; then `D` and the document, or `E` and a reason in plain words.
"""

import io
import os
import resource
import sys
import time
from collections.abc import Callable
from math import ceil
from typing import Final

import pikepdf
import pillow_heif
from PIL import Image

from gateway.documents.isolation import give_up_privileges, refuse_system_calls
from gateway.documents.jpeg import count_scans
from gateway.documents.kinds import CPU_SECONDS, DOCUMENT, KIND_BYTES, READY, REJECTED, DocumentKind, Refused
from gateway.documents.pdf import clean_pdf
from safevideo_common.domain.kyc_documents import MAX_DOCUMENT_BYTES

BOX: Final = (1920, 1080)
JPEG_QUALITY: Final = 85
MAX_PIXELS: Final = {
    DocumentKind.JPEG: 80_000_000,
    DocumentKind.HEIF: 50_000_000,
    DocumentKind.PNG: 36_000_000,
    DocumentKind.WEBP: 20_000_000,
}
"""So that each fits `MEMORY_BYTES`. Only a JPEG is reduced while it is decoded. The others take up to 10, 12 and 20
bytes a pixel. A phone's 50 megapixels are a JPEG or a HEIF."""
MAX_SIDE: Final = 20_000
MAX_SCANS: Final = 24
"""Of a JPEG. Encoders make 10, or 18 of a picture with four colours."""
MEMORY_BYTES: Final = 448 << 20
"""What a document may take: more than a progressive JPEG of 50 megapixels, whose coefficients are all in memory."""
RESIDENT_BYTES: Final = 64 << 20
"""The physical memory of a process that waits for its document. A test measures it."""

NICENESS: Final = 10
"""Requests come first: conversions take what processor time they leave."""

_ORIENTATION: Final = 0x0112
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its EXIF orientation."""
_ROTATED_CONTAINER: Final = (b"irot", b"imir")


def main() -> None:
    """Convert the document on stdin."""
    limit()
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    kind = DocumentKind(sys.stdin.buffer.read(KIND_BYTES).decode("ascii").strip())
    try:
        converted = CONVERTERS[kind](sys.stdin.buffer.read())
        if len(converted) > MAX_DOCUMENT_BYTES:
            raise Refused(f"The file would be stored with over {MAX_DOCUMENT_BYTES} bytes.")
        answer = DOCUMENT + converted
    except Refused as refused:
        answer = REJECTED + str(refused).encode()
    except MemoryError:
        answer = REJECTED + b"The file needs too much memory."
    except Exception:  # noqa: BLE001 - a loader may raise anything for a damaged file
        answer = REJECTED + b"The file is damaged, or not what it seems to be."
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()


def limit() -> None:
    """Give up what a conversion does not need. Children cannot get it back."""
    os.closerange(3, 1 << 16)  # what a library keeps open, such as the source of random numbers
    give_up_privileges()
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: SIM115, PTH123 - once
    started = ceil(time.process_time())  # the start counts too
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CPU: started + CPU_SECONDS,
        resource.RLIMIT_AS: used + MEMORY_BYTES,
        resource.RLIMIT_NPROC: 0,
        # No descriptor above those that are open: no file, no socket, no pipe.
        resource.RLIMIT_NOFILE: 0,
    }
    for name, value in limits.items():
        resource.setrlimit(name, (value, value))
    refuse_system_calls()  # the limits are set by now
    Image.MAX_IMAGE_PIXELS = None  # checked below, before anything is decoded


def convert_image(kind: DocumentKind) -> Callable[[bytes], bytes]:
    """Return the conversion of images of one kind: upright, inside `BOX`, a JPEG without metadata."""

    def convert(document: bytes) -> bytes:
        image: Image.Image
        with Image.open(io.BytesIO(document), formats=[kind.value]) as image:
            width, height = image.size
            if width * height > MAX_PIXELS[kind] or max(width, height) > MAX_SIDE:
                raise Refused("The picture has too many pixels.")
            if kind is DocumentKind.JPEG and count_scans(document, MAX_SCANS) > MAX_SCANS:
                raise Refused("The picture has too many scans.")
            orientation = _orientation(image, document, kind)
            # Scale before turning: fewer pixels to turn. A quarter turn swaps the sides of the box.
            box = BOX[::-1] if orientation >= 5 else BOX
            if image.format == "JPEG":
                # The decoder scales by 2, 4 or 8 for nothing, to no less than the final size.
                image.draft(image.mode, _fitted((width, height), box))
            small = image.resize(_fitted((width, height), box), Image.Resampling.LANCZOS, reducing_gap=2.0)
        plain = _on_white(small)
        upright = plain.transpose(_TURNS[orientation]) if orientation > 1 else plain
        upright.info = {}  # what else the file says is gone with its image
        output = io.BytesIO()
        upright.save(output, "JPEG", quality=JPEG_QUALITY)
        return output.getvalue()

    return convert


def _fitted(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    """Return the size inside `box` that keeps the proportions of `size`, and is no larger."""
    scale = min(1.0, *(longest / side for side, longest in zip(size, box, strict=True)))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _orientation(image: Image.Image, document: bytes, kind: DocumentKind) -> int:
    """Return the turn that EXIF asks for, 1 to 8; 1 for a HEIF whose container has already been obeyed."""
    if kind is DocumentKind.HEIF:
        head = document[: document.find(b"mdat")] if b"mdat" in document else document
        if any(box in head for box in _ROTATED_CONTAINER):
            return 1
        return _valid_orientation(image.info.get("original_orientation"))
    return _valid_orientation(image.getexif().get(_ORIENTATION))


def _valid_orientation(value: object) -> int:
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _on_white(image: Image.Image) -> Image.Image:
    """Return the picture in RGB, transparent parts white. 16 bits become 8 by their upper byte."""
    if image.mode.startswith("I;16"):
        return image.point(lambda value: value / 256).convert("L").convert("RGB")
    if image.mode in ("I", "F"):
        raise Refused("Pictures of this depth are not accepted.")
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, with_alpha).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


CONVERTERS: Final[dict[DocumentKind, Callable[[bytes], bytes]]] = {
    **{kind: convert_image(kind) for kind in DocumentKind if kind is not DocumentKind.PDF},
    DocumentKind.PDF: clean_pdf,
}


def warm_up() -> None:
    """Convert a small document of each kind: what is imported at its first use cannot be imported after `limit`."""
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    samples = dict[DocumentKind, bytes]()
    for kind in CONVERTERS:
        sample = io.BytesIO()
        if kind is DocumentKind.PDF:
            document = pikepdf.new()
            picture = document.make_stream(samples[DocumentKind.JPEG])
            picture.Subtype, picture.Filter = pikepdf.Name.Image, pikepdf.Name.DCTDecode
            document.add_blank_page().obj.Resources = pikepdf.Dictionary(XObject=pikepdf.Dictionary(P=picture))
            document.save(sample, encryption=pikepdf.Encryption(owner="owner", user=""))
        else:
            Image.new("RGBA" if kind is DocumentKind.PNG else "RGB", (8, 8)).save(sample, kind.value, exif=exif)
        samples[kind] = sample.getvalue()
        CONVERTERS[kind](samples[kind])


if __name__ == "__main__":
    os.nice(NICENESS)
    pillow_heif.options.DECODE_THREADS = 1
    pillow_heif.register_heif_opener()
    warm_up()
    main()
    os._exit(0)  # nothing to clean up, and no time to lose
