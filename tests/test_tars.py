"""A tar is read by samples: images with what stands beside them, by the tar format's own rules."""

import io
import tarfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import ProtegeError
from infra.store import Store
from tasks.shard import class_names
from tasks.shard.sources import Place, is_image_name
from tests.builders.containers import read, tar_bytes
from tests.builders.sources import CALM, image, rejects, rows, run, tar_of

RED, BLUE = image(1), image(2)
NOTES = ["cls", "json", "txt"]
OTHERS = ["npy", "pyd", "caption", "index", "weird", "left.npy", "xmp", "ogg", "svg", "zip"]
BESIDE = [*NOTES, *OTHERS]


def named(names: Iterable[str]) -> dict[str, bytes]:
    return {name: name.encode() for name in names}


def tar(path: Path, contents: dict[str, bytes]) -> Path:
    path.write_bytes(tar_bytes(contents))
    return path


# ----------------------------------------------------------------------------------- the format


def test_members_are_where_they_are_said_to_be(tmp_path: Path) -> None:
    names = ["cat/1.jpg", "./dog/2 ü.jpg", "top.jpg", "skip.json", ".h/3.jpg", "n" * 150 + "/l.jpg"]
    path = tar(tmp_path / "x.TAR", named(names))
    found = read(path, labelled=True)
    assert [member.name for member in found] == [name for name in names if is_image_name(name)]
    for member in found:
        assert member.place is not None
        at = member.place.offset
        assert path.read_bytes()[at : at + len(member.data)] == member.name.encode() == member.data
    assert [member.label for member in found] == ["cat", "dog", None, "n" * 150]


def link(name: str, target: str, kind: bytes = tarfile.LNKTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_a_hard_link_is_what_came_before_it__and_a_symbolic_one_is_a_reject(
    root: Store, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, data in (("a.png", RED), ("a.png", BLUE), ("z.png", RED)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
            archive.addfile(link(f"hard{archive.offset}.png", "./a.png"))
            archive.addfile(link(f"again{archive.offset}.png", f"hard{archive.offset - 512}.png"))
        archive.addfile(link("early.png", "later.png"))
        archive.addfile(link("soft.png", "a.png", tarfile.SYMTYPE))
    found = [(member.name[:4], member.data) for member in read(tmp_path / "x.tar")]
    assert found == [
        *[("a.pn", RED), ("hard", RED), ("agai", RED)],
        *[("a.pn", BLUE), ("hard", BLUE), ("agai", BLUE)],
        *[("z.pn", RED), ("hard", BLUE), ("agai", BLUE)],
        *[("earl", b""), ("soft", b"")],
    ]
    output = run(root, tmp_path / "x.tar", max_reject_percent=50)
    assert rejects(output) == {"x.tar/early.png": "unreadable", "x.tar/soft.png": "empty"}


def test_a_sparse_member_is_copied(root: Store, tmp_path: Path) -> None:
    """GNU tar leaves blocks of zeros out, so what lies in the file is not the image."""
    hole, name = 4096, "s.png"
    body = RED + b"\0" * (512 - len(RED))
    info = tarfile.TarInfo(name)
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"%011o\0%011o\0" % (0, 512)
    header[410:434] = b"%011o\0%011o\0" % (512 + hole, 0)
    header[483:495] = b"%011o\0" % (512 + hole)
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "x.tar").write_bytes(bytes(header) + body + tar_bytes({"p.png": BLUE}))
    sparse, plain = read(tmp_path / "x.tar")
    assert (sparse.data, sparse.place) == (body + b"\0" * hole, None)
    assert (plain.data, plain.place) == (BLUE, Place(1536))
    assert run(root, tmp_path / "x.tar").kept == 2


@pytest.mark.parametrize("cut", [100, 512, 700, 1024, 1536, 2560, 3072])
def test_tar_that_is_cut_off_is_refused__at_any_place(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar_bytes(named(["a.jpg", "b.jpg", "c.jpg"]))[:cut])
    with pytest.raises(ProtegeError, match=r"x\.tar"):
        read(path)


def test_two_tars_in_one_file_are_refused__not_half_read(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar_bytes({"a.jpg": b"1"}) + tar_bytes({"b.jpg": b"2"}))
    with pytest.raises(ProtegeError, match="is no whole tar file"):
        read(path)


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_compressed_tar_is_refused__its_offsets_would_be_wrong(tmp_path: Path, mode: str) -> None:
    with tarfile.open(tmp_path / "x.tar", f"w:{mode}") as archive:  # type: ignore[call-overload]
        archive.addfile(tarfile.TarInfo("a.jpg"))
    with pytest.raises(ProtegeError, match=r"x\.tar is compressed: unpack it to \.tar"):
        read(tmp_path / "x.tar")


def test_a_name_in_latin_1_does_not_stop_the_others(root: Store, tmp_path: Path) -> None:
    with tarfile.open(
        tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1"
    ) as archive:
        for name in ("café.png", "b.png"):
            info = tarfile.TarInfo(name)
            info.size = len(RED)
            archive.addfile(info, io.BytesIO(RED))
    output = run(root, tmp_path / "x.tar")
    assert [row["key"] for row in rows(output)] == [r"x.tar/caf\xe9.png", "x.tar/b.png"]


# -------------------------------------------------------------------------------------- samples


@CALM
@given(
    st.sets(
        st.tuples(st.sampled_from(["", "a.b/", "a.c/d/"]), st.sampled_from(["1", "22", "x y"])),
        min_size=1,
        max_size=6,
    ),
    st.sets(
        st.sampled_from(
            [
                "cls",
                "json",
                "txt",
                "npy",
                "pyd",
                "caption",
                "index",
                "weird",
                "left.npy",
                "xmp",
                "ogg",
                "svg",
                "zip",
                "parquet",
            ]
        )
    ),
)
def test_every_image_is_one_row__whatever_stands_beside_it(
    tmp_path_factory: pytest.TempPathFactory, samples: set[tuple[str, str]], beside: set[str]
) -> None:
    folder = tmp_path_factory.mktemp("samples")
    contents: dict[str, bytes] = {}
    for place, name in sorted(samples):
        contents[f"{place}{name}.png"] = RED
        contents |= {f"{place}{name}.{ending}": b"1" for ending in sorted(beside)}
    passed_over: Counter[str] = Counter()
    found = read(tar(folder / "x.tar", contents), passed_over=passed_over)
    assert [member.name for member in found] == [
        f"{place}{name}.png" for place, name in sorted(samples)
    ]
    assert passed_over.total() == len(samples) * len(beside - {"cls", "json", "txt"})


def test_dots_in_names_and_folders_tear_no_sample_apart(tmp_path: Path) -> None:
    contents = {
        "a.b/1.x.jpg": b"p",
        "a.b/1.cls": b"cat",
        "a.c/1.x.jpg": b"q",
        "a.c/1.cls": b"dog",
        "1.jpg": b"r",
        "1.cls": b"cow",
        "22.05.png": b"s",
        "22.05.cls": b"fox",
        "22.06.png": b"t",
        "22.06.cls": b"owl",
    }
    found = read(tar(tmp_path / "x.tar", contents), labelled=True)
    assert [(member.name, member.label) for member in found] == [
        ("a.b/1.x.jpg", "cat"),
        ("a.c/1.x.jpg", "dog"),
        ("1.jpg", "cow"),
        ("22.05.png", "fox"),
        ("22.06.png", "owl"),
    ]


def test_images_without_a_suffix_are_found_by_their_bytes(tmp_path: Path) -> None:
    passed_over: Counter[str] = Counter()
    contents = {"1": RED, "2.img": BLUE, "notes": b"-", "empty.xyz": b"", "3.data": b"<html>"}
    found = read(tar(tmp_path / "x.tar", contents), passed_over=passed_over)
    assert [member.name for member in found] == ["1", "2.img"]
    assert passed_over == {"no ending": 1, ".xyz": 1, ".data": 1}


@pytest.mark.parametrize(
    ("beside", "name", "expected"),
    [
        ({"cls": b"3"}, "", "3"),
        ({"cls": b" cat\n"}, "", "cat"),
        ({"cls": "cafe\u0301".encode()}, "", "caf\u00e9"),
        ({"json": b'{"label": 3.0}'}, "", "3"),
        ({"json": b'{"cls": "dog", "caption": "x"}'}, "", "dog"),
        ({"json": b'{"species": "owl", "label": "no"}'}, "species", "owl"),
        ({"txt": b"cow\n"}, "", "cow"),
        ({"cls": b"1", "json": b'{"label": 2}', "txt": b"3"}, "", "1"),
        ({"cls": b"1", "json": b'{"label": 2}', "txt": b"3"}, "label", "2"),
        ({"cls": b"1", "json": b'{"label": 2}', "txt": b"3"}, "txt", "3"),
        ({"npy": b"1"}, "", None),
        ({"json": b"{broken", "txt": b"cat"}, "", "cat"),
    ],
)
def test_label_is_read_from_what_stands_beside_the_image(
    tmp_path: Path, beside: dict[str, bytes], name: str, expected: str | None
) -> None:
    contents = {"7.jpg": RED, **{f"7.{ending}": data for ending, data in beside.items()}}
    (found,) = read(tar(tmp_path / "x.tar", contents), labelled=True, label=name)
    assert found.label == expected
    (found,) = read(tar(tmp_path / "x.tar", contents))
    assert found.label is None


def test_folder_goes_before_a_caption__and_the_container_s_folder_comes_last(
    tmp_path: Path,
) -> None:
    contents = {"cat/1.jpg": RED, "cat/1.txt": b"a cat on a mat", "2.jpg": RED}
    found = read(tar(tmp_path / "x.tar", contents), labelled=True, folder="dog")
    assert [member.label for member in found] == ["cat", "dog"]


@pytest.mark.parametrize("value", ["3.5", "[1]", "true", '{"a": 1}'])
def test_label_that_is_none_is_refused_with_its_place(tmp_path: Path, value: str) -> None:
    contents = {"7.jpg": RED, "7.json": f'{{"label": {value}}}'.encode()}
    with pytest.raises(ProtegeError, match=r"x\.tar: field 'label' of 7\.jpg: .* is no label"):
        read(tar(tmp_path / "x.tar", contents), labelled=True)


@pytest.mark.parametrize(
    ("ending", "data", "expected"),
    [
        ("txt", b"cat dog", ("cat", "dog")),
        ("txt", b"polar bear, dog\n", ("polar bear", "dog")),
        ("txt", b"polar bear\ndog\n", ("polar bear", "dog")),
        ("json", b'{"tags": ["polar bear", "dog"]}', ("polar bear", "dog")),
        ("json", b'{"tags": "cat dog"}', ("cat", "dog")),
        ("json", b'{"tags": 3}', None),
        ("cls", b"cat", None),
    ],
)
def test_tags_are_read_too(
    root: Store, tmp_path: Path, ending: str, data: bytes, expected: tuple[str, ...] | None
) -> None:
    tar_of(tmp_path / "in" / "x.tar", {"7.png": RED, f"7.{ending}": data})
    (row,) = rows(run(root, tmp_path / "in"))
    assert row["tags"] == (None if expected is None else list(expected))


def test_labelled_webdataset_just_works(root: Store, tmp_path: Path) -> None:
    contents = {}
    for number in range(12):
        contents[f"{number:06d}.png"] = image(number)
        contents[f"{number:06d}.cls"] = str(number).encode()
        contents[f"{number:06d}.json"] = b"{}"
    tar_of(tmp_path / "in" / "0.tar", contents)
    output = run(root, tmp_path / "in", labelled=True)
    assert (output.rows_in, output.kept, output.rejected) == (12, 12, 0)
    assert class_names(output) == [str(number) for number in range(12)]
