"""Labels: what a source says of an image, as the name of a class; and its tags.

In: a value of a table, a list or a file beside an image, or the key of an image. Out: text in one
Unicode form (NFC), so that names which look the same are the same.

    label_text(3.0)                      # "3": pandas makes floats of integers with gaps
    folder_label("cat/2019/1.jpg", 1)    # "cat"
    tags_of("polar bear, dog")           # ("polar bear", "dog")
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

LABEL_NAMES = (
    "label",
    "labels",
    "class",
    "classes",
    "class_name",
    "class_label",
    "classname",
    "category",
    "category_name",
    "target",
    "cls",
    "fine_label",
    "coarse_label",
)
TAG_NAMES = ("tags",)
SEPARATORS = re.compile(r"[,;|\n]")
PARTITION = re.compile(r"([^=]+)=(.*)", re.DOTALL)
NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"


def label_text(value: Any) -> str | None:
    """The name of a class; None where there is none. Raises ValueError for what is no name."""
    if isinstance(value, bytes):
        value = value.decode("utf-8-sig")
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if not value.is_integer():
            raise ValueError("a number with a fraction is no class")
        value = int(value)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"a value of the type {type(value).__name__} is no class")
    text = unicodedata.normalize("NFC", str(value).strip())
    if not _is_unicode(text):
        raise ValueError("half of a character is no text")
    return text or None


def _is_unicode(text: str) -> bool:
    """Whether it can be written: JSON may hold one half of a pair that makes a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def folders_of(key: str) -> list[str]:
    """The folders that a file lies in, top one first."""
    return [step for step in key.split("/")[:-1] if step not in {"", "."}]


def folder_label(key: str, level: int, name: str = "") -> str | None:
    """The class that the folders of a file tell: `label=cat`, or the folder of this level.

    Level 1 is the top folder; `name` is the key of such a partition, if it is an unusual one.
    """
    folders = folders_of(key)
    for folder in folders:
        found = PARTITION.fullmatch(folder)
        if found and (found[1] == name or found[1].lower() in LABEL_NAMES):
            return None if found[2] == NO_PARTITION else label_text(unquote(found[2]))
    # Not stripped: two folders are two classes, and names that look alike are warned of.
    return unicodedata.normalize("NFC", folders[level - 1]) if len(folders) >= level else None


def tags_of(value: Any) -> tuple[str, ...] | None:
    """Tags from a list, or from text: split at commas or lines where it has any, else at spaces.

    What is no text or integer is passed over: people do not look at tags as they do at labels.
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8-sig", errors="replace")
    if isinstance(value, str):
        value = SEPARATORS.split(value) if SEPARATORS.search(value.strip()) else value.split()
    if not isinstance(value, Sequence):
        return None
    texts = (str(tag) for tag in value if isinstance(tag, int | str) and not isinstance(tag, bool))
    found = (label_text(text) for text in texts if _is_unicode(text))
    return tuple(tag for tag in found if tag) or None
