"""Kinds: what a file is, by its first bytes.

In: the bytes of a file. Out: the format that opens it ("PNG"). What is no picture, or a picture of
a kind that is not read, raises `Unusable` with its name, so that the table of rejects says what
lies among the images.

    kind = format_of(data)
"""

import re

from tasks.images.unusable import Unusable

HEAD_BYTES = 512  # a kind shows in them; the mark of a tar file comes last, at 257

# Formats that are read, by how their files begin. A file that begins like this is an image, if
# perhaps a damaged one.
READABLE = (
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"\x89PNG", "PNG"),
    (rb"GIF8", "GIF"),
    (rb"RIFF....WEBP", "WEBP"),
    # Two letters say little, so the size of the header that follows must be one of a BMP, too.
    (rb"BM(?:.{0,11}\Z|.{12}[\x0c-\x7c]\0\0\0)", "BMP"),
    (rb"(?:II|MM)(?:\*\0|\0\*)|II\+\0", "TIFF"),
    (rb"P[1-6f]\s+[\d#-]", "PPM"),
)

# Pictures of kinds that are not read.
PICTURES = (
    (rb"\0\0\0\x0cJXL |\xff\x0a", "JPEG XL"),
    (rb"\0\0\0\x0cjP  |\xffO\xffQ", "JPEG 2000"),
    (rb"II\xbc", "JPEG XR"),
    (rb"MM\0\+", "big-endian BigTIFF"),
    (rb"8BPS", "Photoshop, PSD"),
    (rb"gimp xcf", "GIMP, XCF"),
    (rb"\0\0\x01\0[^\0]\0", "icon, ICO"),
    (rb"icns", "icon, ICNS"),
    (rb"\x0a[\0-\x05]\x01[\x01\x02\x04\x08]", "PCX"),
    (rb".\0[\x02\x0a]\0{5}.{8}[\x08\x10\x18\x20]", "TGA"),
    (rb"v/1\x01", "OpenEXR"),
    (rb"#\?RADIANCE|#\?RGBE", "Radiance, HDR"),
    (rb"DDS ", "DirectDraw, DDS"),
    (rb"qoif", "QOI"),
    (rb"\x8aMNG|\x8bJNG", "MNG"),
    (rb"BPG\xfb", "BPG"),
    (rb"P7\s", "Portable Arbitrary Map, PAM"),
    (rb"\x01\xda[\0\x01][\x01\x02]", "SGI"),
    (rb"AT&TFORM", "DjVu"),
    (rb"SIMPLE  =", "FITS"),
    (rb".{128}DICM", "DICOM"),
)

RAW_PICTURES = (
    (rb"FUJIFILMCCD-RAW", "Fujifilm, RAF"),
    (rb"II(?:RO|RS)|MMOR", "Olympus, ORF"),
    (rb"IIU\0", "Panasonic, RW2"),
    (rb"\0MRM", "Minolta, MRW"),
    (rb"FOVb", "Sigma, X3F"),
    (rb"II.{4}HEAPCCDR", "Canon, CRW"),
    (rb"....ftypcrx ", "Canon, CR3"),
)

OTHERS = (
    (rb"....ftyp(?:M4A|M4B|F4A)", "a sound (M4A)"),
    (rb"....ftypqt  |....(?:moov|mdat|wide|pnot|skip)", "a video (MOV)"),
    (rb"....ftyp", "a video (MP4)"),
    (rb"RIFF....AVI ", "a video (AVI)"),
    (rb"RIFF....WAVE", "a sound (WAV)"),
    (rb"RIFF", "a RIFF file, which is no WebP"),
    (rb"\x1aE\xdf\xa3", "a video (Matroska or WebM)"),
    (rb"\0\0\x01[\xb3\xba]|G.{187}G", "a video (MPEG)"),
    (rb"FLV\x01", "a video (FLV)"),
    (rb"0&\xb2u\x8ef\xcf\x11", "a video or a sound (Windows Media)"),
    (rb"OggS", "a sound or a video (Ogg)"),
    (rb"ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", "a sound (MP3)"),
    (rb"\xff[\xf0\xf1\xf8\xf9]", "a sound (AAC)"),
    (rb"fLaC", "a sound (FLAC)"),
    (rb"FORM....AIF", "a sound (AIFF)"),
    (rb"MThd", "a sound (MIDI)"),
    (rb"%PDF-", "a PDF document"),
    (rb"%!PS", "a PostScript document"),
    (rb"\xd0\xcf\x11\xe0", "an OLE file (Office, or Thumbs.db of Windows)"),
    (rb"PK(?:\x03\x04|\x05\x06|\x07\x08)", "a ZIP archive"),
    (rb"\x1f\x8b", "a gzip file"),
    (rb"BZh[1-9]", "a bzip2 file"),
    (rb"\xfd7zXZ\0", "an xz file"),
    (rb"7z\xbc\xaf", "a 7z archive"),
    (rb"Rar!", "a RAR archive"),
    (rb"\(\xb5/\xfd", "a Zstandard file"),
    (rb".{257}ustar", "a tar archive"),
    (rb"PAR1", "a Parquet file"),
    (rb"ARROW1", "an Arrow file"),
    (rb"\x93NUMPY", "a NumPy array"),
    (rb"\x89HDF", "an HDF5 file"),
    (rb"SQLite format 3", "a SQLite database"),
    (rb"\x7fELF|MZ.{58}", "a program"),
    (rb"\0\x05\x16\x07", "a companion that macOS writes beside a file (AppleDouble)"),
    (rb"version https://git-lfs", "a pointer of Git LFS; fetch the file with `git lfs pull`"),
    (rb"(?i:(?:\xef\xbb\xbf)?\s*(?:<\?xml.{0,400}?)?<svg)", "a drawing (SVG)"),
    (rb"(?i:(?:\xef\xbb\xbf)?\s*(?:<!--.{0,200}?-->\s*)?<(?:!doctype html|html|head))", "HTML"),
    (rb"(?:\xef\xbb\xbf)?\s*<\?xml", "XML"),
    (rb"(?:\xef\xbb\xbf)?\s*[{\[]\s*[\"{\[\]}\d]", "JSON"),
    (rb"\0+\Z", "zero bytes"),
)

AVIF_BRANDS = {b"avif", b"avis"}
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
CONTAINER_BRANDS = {b"mif1", b"msf1"}  # of both: the compatible brands tell which


def format_of(data: bytes) -> str:
    """The format that opens this file. Raises Unusable, which says what else it is."""
    head = data[:HEAD_BYTES]
    kind = _first(READABLE, head) or _of_brands(head)
    if kind:
        return kind
    if raw := _first(RAW_PICTURES, head):
        raise unsupported_raw(raw)
    if other := _first(OTHERS, head):
        raise Unusable("not_an_image", f"it is {other}")
    if picture := _first(PICTURES, head):
        raise Unusable("unsupported", f"a picture of another kind ({picture}): convert it to PNG")
    raise Unusable("not_an_image", f"begins with {data[:12]!r}")


def unsupported_raw(kind: str) -> Unusable:
    """What sensors saw is no picture yet; and what else is in such a file is a thumbnail."""
    return Unusable("unsupported", f"a raw camera file ({kind}): convert it to JPEG or PNG")


def _first(kinds: tuple[tuple[bytes, str], ...], head: bytes) -> str | None:
    for pattern, name in kinds:
        if re.match(pattern, head, re.DOTALL):
            return name
    return None


def _of_brands(head: bytes) -> str | None:
    """AVIF or HEIC, by the brands that a file of ISO boxes begins with."""
    if head[4:8] != b"ftyp":
        return None
    end = int.from_bytes(head[:4], "big")
    major = head[8:12]
    brands = {major, *(head[at : at + 4] for at in range(16, min(end, len(head)), 4))}
    if major in AVIF_BRANDS or (major in CONTAINER_BRANDS and brands & AVIF_BRANDS):
        return "AVIF"
    return "HEIC" if major in CONTAINER_BRANDS or brands & HEIC_BRANDS else None
