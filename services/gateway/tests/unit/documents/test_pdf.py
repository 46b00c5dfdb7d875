"""What is left of a PDF: its pages as they look, and nothing that is not needed for that."""

import io
from collections.abc import Callable

import pikepdf
import pytest
from pikepdf import Array, Dictionary, Name
from PIL import Image

from gateway.documents.converter_process import CONVERTERS
from gateway.documents.kinds import DocumentKind

PLANTED = b"planted"
TEXT = b"BT /F1 12 Tf 20 20 Td (visible words) Tj ET q 50 0 0 50 0 0 cm /Picture Do Q /Drawing Do /Sh sh"
JP2_HEAD = b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 \0\0\0\0jp2 "


def clean_pdf(document: bytes) -> bytes:
    return CONVERTERS[DocumentKind.PDF](document)


def photo(*, planted: bool = False) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = "planted-description"
    exif.get_ifd(0x8825)[1] = "planted-gps"
    output = io.BytesIO()
    picture = Image.linear_gradient("L").convert("RGB").resize((32, 16))
    if not planted:
        picture.save(output, "JPEG")
        return output.getvalue()
    picture.save(output, "JPEG", exif=exif, comment=b"planted-comment", icc_profile=b"planted-profile")
    return output.getvalue() + b"planted-after-the-end"


def page_of(pdf: pikepdf.Pdf) -> Dictionary:
    """Add a page with a font, a picture, a drawing, and a shading. It uses most of what a page may have."""
    page = pdf.add_blank_page(page_size=(200, 200)).obj
    image = {"/Type": Name.XObject, "/Subtype": Name.Image, "/Width": 32, "/Height": 16, "/BitsPerComponent": 8}
    drawing = {"/Type": Name.XObject, "/Subtype": Name.Form, "/BBox": Array([0, 0, 9, 9])}
    mask = pdf.make_stream(bytes(32 * 16), {**image, "/ColorSpace": Name.DeviceGray})
    picture = pdf.make_stream(
        photo(), {**image, "/ColorSpace": Name.DeviceRGB, "/SMask": mask, "/Filter": Name.DCTDecode}
    )
    function = Dictionary(FunctionType=2, Domain=[0, 1], C0=[0, 0, 0], C1=[1, 0, 0], N=1)
    shading = Dictionary(ShadingType=2, ColorSpace=Name.DeviceRGB, Coords=[0, 0, 9, 9], Function=function)
    font = Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Helvetica, Encoding=Name.WinAnsiEncoding)
    page.Contents = pdf.make_stream(TEXT)
    page.Resources = Dictionary(
        Font=Dictionary(F1=pdf.make_indirect(font)),
        XObject=Dictionary(Picture=picture, Drawing=pdf.make_stream(b"0 0 5 5 re f", drawing)),
        ExtGState=Dictionary(G=Dictionary(CA=1, SMask=Dictionary(S=Name.Luminosity, G=pdf.make_stream(b"f", drawing)))),
        ColorSpace=Dictionary(C=Array([Name.ICCBased, pdf.make_stream(b"a profile", N=3, Alternate=Name.DeviceRGB)])),
        Shading=Dictionary(Sh=shading),
        Pattern=Dictionary(P=Dictionary(PatternType=2, Shading=shading)),
    )  # fmt: skip
    return page


def made(plant: Callable[[pikepdf.Pdf, Dictionary], None] = lambda _pdf, _page: None, **options: object) -> bytes:
    pdf = pikepdf.new()
    plant(pdf, page_of(pdf))
    output = io.BytesIO()
    pdf.save(output, **options)  # type: ignore[arg-type]
    return output.getvalue()


def all_bytes(document: bytes) -> bytes:
    """Return a PDF with nothing compressed, and the data of each stream."""
    with pikepdf.open(io.BytesIO(document)) as pdf:
        output = io.BytesIO()
        pdf.save(output, compress_streams=False, object_stream_mode=pikepdf.ObjectStreamMode.disable)
        streams = [each for each in pdf.objects if isinstance(each, pikepdf.Stream)]
        return output.getvalue() + b"".join(each.read_raw_bytes() + decoded(each) for each in streams)


def decoded(stream: pikepdf.Stream) -> bytes:
    try:
        return stream.read_bytes()
    except pikepdf.PdfError:  # a picture
        return b""


def attachment(pdf: pikepdf.Pdf) -> Dictionary:
    return pdf.make_indirect(Dictionary(Type=Name.Filespec, F="planted.txt", EF=Dictionary(F=pdf.make_stream(PLANTED))))


def xmp(pdf: pikepdf.Pdf) -> pikepdf.Stream:
    return pdf.make_stream(PLANTED, Type=Name.Metadata, Subtype=Name.XML)


def script() -> Dictionary:
    return Dictionary(S=Name.JavaScript, JS="planted()")


def set_in(where: Callable[[Dictionary], object], **entries: Callable[[pikepdf.Pdf], object]):  # type: ignore[no-untyped-def]
    def plant(pdf: pikepdf.Pdf, page: Dictionary) -> None:
        target = where(page)
        for name, value in entries.items():
            target[f"/{name}"] = value(pdf)  # type: ignore[index]

    return plant


def launch_in_steps(pdf: pikepdf.Pdf, page: Dictionary) -> None:
    launch = Dictionary(S=Name.Launch, F="planted.exe")
    page.PresSteps = Dictionary(Type=Name.NavNode, NA=script(), PA=launch)


def postscript(pdf: pikepdf.Pdf, page: Dictionary) -> None:
    page.Resources.XObject.Ps = pdf.make_stream(PLANTED, Type=Name.XObject, Subtype=Name.PS)


def description(_pdf: pikepdf.Pdf, page: Dictionary) -> None:
    page.Resources.XObject.Picture.write(photo(planted=True), filter=Name.DCTDecode)


def description_behind_another_filter(_pdf: pikepdf.Pdf, page: Dictionary) -> None:
    filters = Array([Name.ASCIIHexDecode, Name.DCTDecode])
    page.Resources.XObject.Picture.write(photo(planted=True).hex().encode(), filter=filters)


def jpeg_2000(pdf: pikepdf.Pdf, page: Dictionary) -> None:
    header = b"\xff\x4f\xff\x51\x00\x04\x00\x00\xff\x64\x00\x0b\x00\x01planted\xff\x90\x00\x00"
    boxes = [(b"jp2h", b"h"), (b"xml ", b"<planted/>"), (b"uuid", b"planted"), (b"jp2c", header)]
    content = JP2_HEAD + b"".join((len(data) + 8).to_bytes(4) + kind + data for kind, data in boxes)
    page.Resources.XObject.Picture.write(content, filter=Name.JPXDecode)


def nested_in_an_array(pdf: pikepdf.Pdf, page: Dictionary) -> None:
    page.Resources.XObject.Picture.Decode = Array([0, 1, Array([Dictionary(JS="planted")])])


def in_a_cycle(pdf: pikepdf.Pdf, page: Dictionary) -> None:
    drawing = page.Resources.XObject.Drawing
    drawing.Resources = Dictionary(XObject=Dictionary(Again=drawing))
    drawing.PieceInfo = Dictionary(X="planted")


def inherited(pdf: pikepdf.Pdf, page: Dictionary) -> None:
    pdf.Root.Pages.Resources = page.Resources
    pdf.Root.Pages.Resources.Properties = Dictionary(X=Dictionary(Y="planted"))
    del page["/Resources"]


def as_an_old_layer(pdf: pikepdf.Pdf, page: Dictionary) -> None:
    layer = pdf.make_indirect(Dictionary(Type=Name.OCG, Name="planted"))
    pdf.Root.OCProperties = Dictionary(OCGs=[layer], D=Dictionary(Order=[layer]))
    page.Resources.XObject.Drawing.OC = layer


LEFTOVERS = {
    "a description of the picture": description,
    "an attachment of the page": set_in(lambda page: page, AF=lambda pdf: Array([attachment(pdf)])),
    "names in a drawing": set_in(
        lambda page: page.Resources.XObject.Drawing,
        Names=lambda pdf: Dictionary(EmbeddedFiles=Dictionary(Names=["a", attachment(pdf)])),
        AF=attachment,
        Ref=lambda pdf: Dictionary(F=attachment(pdf), Page=0),
    ),
    "metadata of a picture": set_in(
        lambda page: page.Resources.XObject.Picture,
        Metadata=xmp,
        OPI=lambda _pdf: Dictionary(F="planted"),
        Alternates=lambda pdf: Array([Dictionary(Image=pdf.make_stream(PLANTED, Subtype=Name.Image))]),
    ),
    "metadata of a font": set_in(lambda page: page.Resources.Font.F1, Metadata=xmp, PieceInfo=xmp),
    "metadata of a profile": set_in(lambda page: page.Resources.ColorSpace.C[1], Metadata=xmp),
    "properties": set_in(
        lambda page: page.Resources, Properties=lambda pdf: Dictionary(P=Dictionary(Metadata=xmp(pdf)))
    ),
    "an external file of a stream": set_in(lambda page: page.Resources.XObject.Drawing, FDecodeParms=attachment),
    "annotations": set_in(lambda page: page, Annots=lambda _pdf: Array([Dictionary(Subtype=Name.Link, A=script())])),
    "actions": set_in(lambda page: page, AA=lambda _pdf: Dictionary(O=script()), B=lambda _pdf: Array([script()])),
    "a thumbnail": set_in(lambda page: page, Thumb=lambda pdf: pdf.make_stream(PLANTED)),
    "something new": set_in(lambda page: page, PlantedOfPdf3=lambda pdf: pdf.make_stream(PLANTED)),
    "presentation steps": launch_in_steps,
    "PostScript": postscript,
    "a JPEG behind another filter": description_behind_another_filter,
    "a JPEG 2000": jpeg_2000,
    "a dictionary among numbers": nested_in_an_array,
    "a cycle": in_a_cycle,
    "inherited resources": inherited,
    "layers": as_an_old_layer,
}


@pytest.mark.parametrize("leftover", LEFTOVERS)
def test_nothing_that_is_not_shown_is_left(leftover: str) -> None:
    document = made(LEFTOVERS[leftover])
    clean = all_bytes(clean_pdf(document))
    for text in (PLANTED, PLANTED.hex().encode()):
        assert text not in clean
    assert PLANTED in all_bytes(document) or PLANTED.hex().encode() in all_bytes(document)


def test_pages_keep_all_that_is_shown() -> None:
    with pikepdf.open(io.BytesIO(clean_pdf(made()))) as pdf:
        (page,) = pdf.pages
        resources = page.obj.Resources
        assert page.obj.Contents.read_bytes() == TEXT
        assert resources.Font.F1.BaseFont == Name.Helvetica
        assert resources.XObject.Drawing.read_bytes() == b"0 0 5 5 re f"
        assert resources.XObject.Picture.SMask.Width == 32
        assert resources.ExtGState.G.SMask.G.read_bytes() == b"f"
        assert resources.ColorSpace.C[1].N == 3
        assert resources.Shading.Sh.Function.C1 == [1, 0, 0]
        assert resources.Pattern.P.Shading.ShadingType == 2
        picture = Image.open(io.BytesIO(resources.XObject.Picture.read_raw_bytes()))
    assert picture.tobytes() == Image.open(io.BytesIO(photo())).tobytes()


def test_small_document_does_not_grow_large() -> None:
    """Objects that an object stream has compressed are compressed again."""

    def plant(pdf: pikepdf.Pdf, page: Dictionary) -> None:
        page.Resources.ColorSpace.Many = Array(
            [Array([Name.Indexed, Name.DeviceRGB, 1, "x" * 99]) for _ in range(20_000)]
        )

    document = made(plant, object_stream_mode=pikepdf.ObjectStreamMode.generate)
    assert len(document) < 40_000
    assert len(clean_pdf(document)) < 2 * len(document)


def test_document_with_too_many_objects_is_refused() -> None:
    def plant(_pdf: pikepdf.Pdf, page: Dictionary) -> None:
        page.Resources.ColorSpace.Many = Array([Array([])] * 110_000)

    with pytest.raises(Exception, match="objects"):
        clean_pdf(made(plant))


@pytest.mark.parametrize("content", [b"not a picture", b"\xff\xd8\xff\xe1\xff\xff"])
def test_picture_whose_metadata_cannot_be_removed_is_refused(content: bytes) -> None:
    def plant(_pdf: pikepdf.Pdf, page: Dictionary) -> None:
        page.Resources.XObject.Picture.write(content, filter=Name.DCTDecode)

    with pytest.raises(Exception, match="picture"):
        clean_pdf(made(plant))


def test_jpeg_inside_the_operators_is_refused() -> None:
    def plant(pdf: pikepdf.Pdf, page: Dictionary) -> None:
        page.Contents = pdf.make_stream(b"q BI /W 1 /H 1 /F [/A85 /DCT] ID xx EI Q")

    with pytest.raises(Exception, match="JPEG"):
        clean_pdf(made(plant))
