"""Names: what a file is likely to be, before it is opened.

In: the key of a file. Out: its `Kind`. A name decides only what is sure: files of other kinds are
passed over, and whatever else may be an image (a folder of images without suffixes is nothing
unusual) is opened, and known by its bytes.

    kind_of("cat/1.JPG")      # Kind.IMAGE
    kind_of("cat/1.xmp")      # Kind.OTHER: a companion of images
    kind_of("cat/1")          # Kind.UNKNOWN
"""

import re
from enum import Enum, auto
from pathlib import PurePosixPath


def words(text: str) -> frozenset[str]:
    """The words of a text, which is easier to read and to add to than a list of strings."""
    return frozenset(text.split())


IMAGE_SUFFIXES = words(
    ".jpg .jpeg .jpe .jfif .png .apng .gif .webp .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm .avif "
    ".avifs .mpo .heic .heif .jxl .jp2"
)
CONTAINER_ENDINGS = (".tar", ".parquet")
CONTAINER_SUFFIXES = frozenset(CONTAINER_ENDINGS)
LIST_SUFFIXES = frozenset({".csv", ".tsv", ".txt", ".jsonl", ".ndjson"})
COMPRESSED_SUFFIXES = words(".zip .tgz .tbz .tbz2 .txz .gz .bz2 .xz .zst .7z .rar .lz4")
OTHER_SUFFIXES = LIST_SUFFIXES | words(
    # Notes and labels beside images
    ".json .xml .yaml .yml .toml .md .rst .log .ini .cfg .html .htm .css .js .cls .caption .tags "
    ".label .labels .index .idx .xmp .aae .thm .identifier .url .lnk .webloc .srt .vtt .ipynb .py "
    ".sh .db .sqlite .lock .md5 .sha1 .sha256 .sum .crc .done .torrent .lst "
    # Arrays and tables
    ".npy .npz .pyd .pkl .pickle .pt .pth .ckpt .safetensors .onnx .h5 .hdf5 .mat .tfrecord "
    ".tfrecords .lmdb .mdb .arrow .feather .orc .avro .xls .xlsx .ods "
    # Documents and drawings
    ".pdf .doc .docx .odt .rtf .ppt .pptx .odp .tex .epub .svg .svgz .eps .ps .ai .psd .xcf .ttf "
    ".otf .obj .stl .ply .glb "
    # Sounds and films
    ".wav .mp3 .ogg .oga .opus .flac .m4a .aac .wma .mid .midi .mp4 .m4v .mov .avi .mkv .webm .ogv "
    ".wmv .mpg .mpeg .3gp .flv .mts"
)
OTHER_NAMES = words(
    "thumbs.db desktop.ini license licence readme notice makefile _success _metadata "
    "_common_metadata"
)
OTHER_FOLDERS = frozenset({"__macosx", "_temporary"})
# `a.tar.gz` is one ending; a suffix of letters and digits tells a kind, `Mr. Smith` does not.
ENDING = re.compile(r"(\.tar)?\.[a-z0-9_]{1,12}$")


class Kind(Enum):
    """What a file is, by its name."""

    IMAGE = auto()
    CONTAINER = auto()
    COMPRESSED = auto()
    OTHER = auto()
    HIDDEN = auto()
    UNKNOWN = auto()


KINDS = {
    **dict.fromkeys(OTHER_SUFFIXES, Kind.OTHER),
    **dict.fromkeys(COMPRESSED_SUFFIXES, Kind.COMPRESSED),
    **dict.fromkeys(CONTAINER_SUFFIXES, Kind.CONTAINER),
    **dict.fromkeys(IMAGE_SUFFIXES, Kind.IMAGE),
}


def kind_of(key: str) -> Kind:
    """What a file is, by its name and folders."""
    # Not by pathlib, which is slow: a source may have millions of files.
    lower = key.lower()
    steps = lower.split("/")
    hidden = any(step.startswith(".") and step not in {".", ".."} for step in steps)
    if hidden or not OTHER_FOLDERS.isdisjoint(steps):
        return Kind.HIDDEN
    stem, _, ending = steps[-1].rpartition(".")
    known = KINDS.get(f".{ending}") if stem else None
    return known or (Kind.OTHER if steps[-1] in OTHER_NAMES else Kind.UNKNOWN)


def is_image_name(key: str) -> bool:
    """Whether a file is worth opening as an image."""
    return kind_of(key) in {Kind.IMAGE, Kind.UNKNOWN}


def is_list_name(name: str) -> bool:
    """Whether a file lists images that lie elsewhere."""
    return PurePosixPath(name).suffix.lower() in LIST_SUFFIXES


def is_container_name(key: str) -> bool:
    """Whether a file holds images instead of being one."""
    return key.lower().endswith(CONTAINER_ENDINGS)


def is_compressed_name(key: str) -> bool:
    """Whether a file holds others in a form that has to be unpacked first."""
    return PurePosixPath(key).suffix.lower() in COMPRESSED_SUFFIXES


def ending_of(key: str) -> str:
    """By what the files that are passed over are counted: `.ogg`, `.tar.gz`, `readme`."""
    name = PurePosixPath(key).name.lower()
    found = ENDING.search(name)
    return found[0] if found else name if name in OTHER_NAMES else "no ending"
