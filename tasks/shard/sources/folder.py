"""A source that is a folder, on disk or on S3."""

from pathlib import Path, PurePosixPath

from infra.errors import ProtegeError
from infra.store import Store
from tasks.shard.sources.files import SourceFile, folder_label, is_image_name


def walk_folder(store: Store, *, labelled: bool) -> list[SourceFile]:
    """Every file below a folder that may be an image or a container."""
    files = []
    for key, found in store.sizes().items():
        if is_image_name(key):
            label = folder_label(key) if labelled else None
            files.append(SourceFile(key, f"{store.uri}/{key}", found.size, found.version, label))
    return files


def check_class_folders(store: Store, files: list[SourceFile]) -> None:
    """A local folder without images is a class that somebody forgot; S3 has no empty folders."""
    folder = Path(store.uri)
    if not folder.is_dir():
        return
    filled = {PurePosixPath(file.key).parts[0] for file in files}
    for item in sorted(folder.iterdir()):
        if item.is_dir() and is_image_name(item.name) and item.name not in filled:
            raise ProtegeError(
                f"class {item.name!r} has no image: there is none in {item}. Put images into it, "
                "or remove the folder"
            )
