"""PDFs, reduced to what is needed to show their pages: every other entry of every object is removed.

Each entry that ISO 32000 defines for showing a page is in `_SHAPES`. What is not there is not copied: attachments,
scripts, actions, annotations, metadata, private data of programs, names of layers, PostScript, and whatever the next
version of the format brings. Pictures lose their own metadata.
"""

import io
import re
from collections.abc import Iterator, Mapping
from typing import Final

import pikepdf

from gateway.documents.jpeg import clean_jpeg, clean_jpeg_2000
from gateway.documents.kinds import Refused

MAX_PAGES: Final = 100
MAX_OBJECTS: Final = 100_000
"""Dictionaries, streams and arrays that are looked at."""

_PLAIN: Final = "plain"
"""Numbers, names and strings, and arrays of them: no dictionary and no stream."""
_UNTOUCHED: Final = "untouched"

_Shape = Mapping[str, str]


def _plain(*names: str) -> _Shape:
    return {f"/{name}": _PLAIN for name in names}


_STREAM: Final[_Shape] = {"/DecodeParms": "parameters of a filter", **_plain("Length", "Filter")}
_FUNCTION: Final[_Shape] = {
    "/Functions": "function",
    **_plain("FunctionType", "Domain", "Range", "Size", "BitsPerSample", "Order", "Encode", "Decode", "C0", "C1", "N"),
    **_plain("Bounds"),
    **_STREAM,
}
_SHAPES: Final[Mapping[str, _Shape]] = {
    _PLAIN: {},
    "page": {
        "/Parent": _UNTOUCHED,  # written by the library
        "/Contents": "content",
        "/Resources": "resources",
        "/Group": "group",
        **_plain("Type", "MediaBox", "CropBox", "Rotate", "UserUnit"),
    },
    "content": _STREAM,
    "data": _STREAM,
    "parameters of a filter": {
        "/JBIG2Globals": "data",
        **_plain("Predictor", "Colors", "BitsPerComponent", "Columns", "EarlyChange", "K", "EndOfLine", "Rows"),
        **_plain("EncodedByteAlign", "EndOfBlock", "BlackIs1", "DamagedRowsBeforeError", "ColorTransform"),
    },
    "resources": {
        "/Font": "each font",
        "/XObject": "each xobject",
        "/ExtGState": "each graphics state",
        "/ColorSpace": "each color space",
        "/Pattern": "each pattern",
        "/Shading": "each shading",
        **_plain("ProcSet"),
    },
    "/Image": {
        "/ColorSpace": "color space",
        "/Mask": "xobject",
        "/SMask": "xobject",
        **_plain("Type", "Subtype", "Width", "Height", "BitsPerComponent", "Intent", "ImageMask", "Decode"),
        **_plain("Interpolate", "SMaskInData", "Matte"),
        **_STREAM,
    },
    "/Form": {
        "/Resources": "resources",
        "/Group": "group",
        **_plain("Type", "Subtype", "FormType", "BBox", "Matrix"),
        **_STREAM,
    },
    "group": {"/CS": "color space", **_plain("Type", "S", "I", "K")},
    "graphics state": {
        "/Font": "font",
        "/SMask": "soft mask",
        "/TR": "function",
        "/TR2": "function",
        **_plain("Type", "LW", "LC", "LJ", "ML", "D", "RI", "OP", "op", "OPM", "FL", "SM", "SA", "BM", "CA", "ca"),
        **_plain("AIS", "TK"),
    },
    "soft mask": {"/G": "xobject", "/TR": "function", **_plain("Type", "S", "BC")},
    "function": _FUNCTION,
    "color space": {
        **_FUNCTION,  # of a tint
        "/Alternate": "color space",
        "/Colorants": "each color space",
        "/Process": "color space",
        "/ColorSpace": "color space",
        **_plain("WhitePoint", "BlackPoint", "Gamma", "Matrix", "Subtype", "Components"),
    },
    "pattern": {
        "/Shading": "shading",
        "/ExtGState": "graphics state",
        "/Resources": "resources",
        **_plain("Type", "PatternType", "PaintType", "TilingType", "BBox", "XStep", "YStep", "Matrix"),
        **_STREAM,
    },
    "shading": {
        "/ColorSpace": "color space",
        "/Function": "function",
        **_plain("ShadingType", "Background", "BBox", "AntiAlias", "Coords", "Domain", "Extend", "Matrix"),
        **_plain("BitsPerCoordinate", "BitsPerComponent", "BitsPerFlag", "Decode", "VerticesPerRow"),
        **_STREAM,
    },
    "font": {
        "/FontDescriptor": "font descriptor",
        "/Encoding": "encoding",
        "/ToUnicode": "encoding",
        "/DescendantFonts": "font",
        "/CIDSystemInfo": "character collection",
        "/CIDToGIDMap": "data",
        "/CharProcs": "each content",
        "/Resources": "resources",
        **_plain("Type", "Subtype", "BaseFont", "Name", "FirstChar", "LastChar", "Widths", "DW", "W", "DW2", "W2"),
        **_plain("FontBBox", "FontMatrix"),
    },
    "font descriptor": {
        "/FontFile": "font file",
        "/FontFile2": "font file",
        "/FontFile3": "font file",
        "/CIDSet": "data",
        **_plain("Type", "FontName", "FontFamily", "FontStretch", "FontWeight", "Flags", "FontBBox", "ItalicAngle"),
        **_plain("Ascent", "Descent", "Leading", "CapHeight", "XHeight", "StemV", "StemH", "AvgWidth", "MaxWidth"),
        **_plain("MissingWidth", "CharSet"),
    },
    "font file": {**_plain("Length1", "Length2", "Length3", "Subtype"), **_STREAM},
    "encoding": {
        "/CIDSystemInfo": "character collection",
        "/UseCMap": "encoding",
        **_plain("Type", "BaseEncoding", "Differences", "CMapName", "WMode"),
        **_STREAM,
    },
    "character collection": _plain("Registry", "Ordering", "Supplement"),
}
_EACH: Final = "each "
"""Before a shape: a dictionary whose names the author has chosen, with a value of that shape for each."""
_DRAWN: Final = frozenset({"content", "/Form", "pattern"})
"""The shapes of streams with operators."""
_INLINE_JPEG: Final = re.compile(rb"/F(?:ilter)?\s*(?:\[[^\]]{0,64})?/DCT")
_JPEG: Final = frozenset({"/DCTDecode", "/DCT"})
_JPEG_2000: Final = "/JPXDecode"


def clean_pdf(document: bytes) -> bytes:
    """Return the pages of a PDF and nothing else of it. A repetition gives the same bytes. Raises `Refused`."""
    try:
        pdf = pikepdf.open(io.BytesIO(document))
    except pikepdf.PasswordError:
        raise Refused("The PDF needs a password.") from None
    with pdf:
        if not 1 <= len(pdf.pages) <= MAX_PAGES:
            raise Refused(f"The PDF has no pages, or more than {MAX_PAGES}.")
        clean = pikepdf.new()
        clean.pages.extend(pdf.pages)
        for shape, stream in _reduced(clean):
            _clean_stream(clean, shape, stream)
        output = io.BytesIO()
        # With object streams, since the input may have them: a thousand times its size without.
        clean.save(
            output,
            deterministic_id=True,
            encryption=False,
            compress_streams=True,
            object_stream_mode=pikepdf.ObjectStreamMode.generate,
        )
        return output.getvalue()


def _reduced(pdf: pikepdf.Pdf) -> Iterator[tuple[str, pikepdf.Stream]]:
    """Remove all entries that no shape has from all objects that a page reaches. Yield each stream with its shape.

    An object that is reached as two shapes keeps what both have.
    """
    todo: list[tuple[pikepdf.Object, str]] = [(page.obj, "page") for page in pdf.pages]
    visited = set[tuple[tuple[int, int], str]]()
    count = 0
    while todo:
        node, shape = todo.pop()
        if node.is_indirect:
            if (node.objgen, shape) in visited:
                continue
            visited.add((node.objgen, shape))
        count += 1
        if count > MAX_OBJECTS:
            raise Refused("The PDF has too many objects.")
        if isinstance(node, pikepdf.Array):
            todo += _reduce_array(node, shape)
        else:
            todo += _reduce_entries(node, shape)
            if isinstance(node, pikepdf.Stream):
                yield shape, node


def _reduce_array(node: pikepdf.Array, shape: str) -> Iterator[tuple[pikepdf.Object, str]]:
    """Replace the elements that may not be there by null. Yield the others that have to be looked at."""
    for index, child in enumerate(list(node)):
        if not _has_entries(child):
            continue
        child_shape = _shape_of(child, shape)
        if child_shape is None:
            node[index] = None
        else:
            yield child, child_shape


def _reduce_entries(node: pikepdf.Object, shape: str) -> Iterator[tuple[pikepdf.Object, str]]:
    """Remove the entries that may not be there. Yield the others that have to be looked at."""
    of_each = shape.removeprefix(_EACH) if shape.startswith(_EACH) else None
    for name in list(node.keys()):
        expected = of_each or _SHAPES[shape].get(name)
        if expected == _UNTOUCHED:
            continue
        child_shape = _shape_of(node[name], expected) if expected else None
        if child_shape is None:
            del node[name]
        elif _has_entries(node[name]):
            yield node[name], child_shape


def _has_entries(value: object) -> bool:
    return isinstance(value, pikepdf.Dictionary | pikepdf.Stream | pikepdf.Array)


def _shape_of(value: object, expected: str) -> str | None:
    """Return the shape of a value where `expected` is due, or None if it may not be there."""
    if not isinstance(value, pikepdf.Dictionary | pikepdf.Stream):
        return expected
    if expected == _PLAIN:
        return None
    if expected != "xobject":
        return expected
    subtype = str(value.get("/Subtype"))
    return subtype if subtype in ("/Image", "/Form") else None  # and not PostScript


def _clean_stream(pdf: pikepdf.Pdf, shape: str, stream: pikepdf.Stream) -> None:
    """Remove the metadata of a picture. Raises `Refused` for a picture whose metadata cannot be removed."""
    filters = [str(each) for each in _listed(stream.get("/Filter"))]
    if shape in _DRAWN:
        if _INLINE_JPEG.search(stream.read_bytes()):
            raise Refused("The PDF has a JPEG among its text operators.")
        return
    if not _JPEG.intersection(filters) and _JPEG_2000 not in filters:
        return
    parameters = _listed(stream.get("/DecodeParms"))
    data = stream.read_raw_bytes()
    if len(filters) > 1:
        outer = pikepdf.Stream(pdf, data)
        outer.Filter = pikepdf.Array([pikepdf.Name(each) for each in filters[:-1]])
        if len(parameters) == len(filters):
            outer.DecodeParms = pikepdf.Array(parameters[:-1])
        data = outer.read_bytes()
    try:
        data = (clean_jpeg if filters[-1] in _JPEG else clean_jpeg_2000)(data)
    except ValueError:
        raise Refused("The PDF has a damaged picture.") from None
    own = parameters[-1] if len(parameters) == len(filters) else None
    stream.write(
        data, filter=pikepdf.Name(filters[-1]), decode_parms=own if isinstance(own, pikepdf.Dictionary) else None
    )


def _listed(value: object) -> list[pikepdf.Object]:
    """Return the elements of an array, a single value as a list of one, or nothing."""
    if value is None:
        return []
    return list(value) if isinstance(value, pikepdf.Array) else [value]  # type: ignore[list-item]
