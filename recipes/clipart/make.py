"""Makes the embedded data set `clipart` from Debian's openclipart packages.

Run from the repository root: `python -m recipes.clipart.make`. The result is the same, byte for
byte, for the same package version, class list and Pillow version.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import subprocess
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

from PIL import Image

from recipes.clipart.picture import SIDE, square

PACKAGES = ("openclipart-png", "openclipart-svg")
CLASSES = Path(__file__).with_name("classes.json")
ASSETS = Path("cacheclip/assets/clipart")
N_TRAIN, N_VAL = 20, 4
MAX_ARCHIVE_BYTES = 4_500_000
# What the pictures' own metadata say, in the spellings that occur.
PUBLIC_DOMAIN = {
    "http://web.resource.org/cc/PublicDomain",
    "http://creativecommons.org/licenses/publicdomain/",
}
# One picture carries the words beside the address.
PUBLIC_DOMAIN_WORDS = {"Public Domain"}


def fetch_packages(work: Path) -> Path:
    """Downloads and unpacks the two packages; gives the folder that holds `png` and `svg`.

    Args:
        work: Folder for the packages and their content; what is there is used again.
    """
    root = work / "usr/share/openclipart"
    if not all((root / kind).is_dir() for kind in ("png", "svg")):
        work.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", *PACKAGES], cwd=work, check=True)
        for package in PACKAGES:
            for archive in work.glob(f"{package}_*.deb"):
                subprocess.run(["dpkg", "-x", archive, work], check=True)
    return root


def licences(svg: Path) -> set[str]:
    """Gives every licence that the RDF metadata of a drawing names, an empty name included.

    Args:
        svg: The drawing.

    Raises:
        xml.etree.ElementTree.ParseError: If the file is no XML.
    """
    named = set()
    for element in ET.parse(svg).iter():
        if element.tag.rsplit("}", 1)[-1] == "license":
            resource = [v for k, v in element.attrib.items() if k.rsplit("}", 1)[-1] == "resource"]
            named.add(resource[0] if resource else "")
    return named


def is_public_domain(svg: Path) -> bool:
    """Says whether the drawing states a licence, and none but the public domain.

    Args:
        svg: The drawing.
    """
    named = licences(svg)
    return bool(named & PUBLIC_DOMAIN) and named <= PUBLIC_DOMAIN | PUBLIC_DOMAIN_WORDS


def split_of(ids: list[str]) -> dict[str, str]:
    """Gives the split of each id of one class: by rank of sha256(id), so that it never changes.

    Args:
        ids: The ids of one class.
    """
    ranked = sorted(ids, key=lambda id_: hashlib.sha256(id_.encode()).hexdigest())
    names = ["train"] * N_TRAIN + ["val"] * N_VAL + ["test"] * (len(ids) - N_TRAIN - N_VAL)
    return dict(zip(ranked, names, strict=True))


def list_images(classes: dict[str, list[str]]) -> list[dict[str, str | int]]:
    """Gives the records of `clipart.json`, ordered by class and then by id.

    Args:
        classes: Paths below the package's `png` folder for each class name.
    """
    images: list[dict[str, str | int]] = []
    for label, (name, paths) in enumerate(classes.items()):
        source = {f"{name.replace(' ', '_')}/{Path(path).stem}.webp": path for path in paths}
        if len(source) != len(paths):
            raise SystemExit(f"class {name}: two pictures have the same file name")
        splits = split_of(list(source))
        images += [
            {"id": id_, "label": label, "split": splits[id_], "source": source[id_]}
            for id_ in sorted(source)
        ]
    return images


def write_archive(images: list[dict[str, str | int]], root: Path, target: Path) -> None:
    """Writes the pictures as lossless WebP into one uncompressed zip archive.

    Args:
        images: Records of `clipart.json`.
        root: Folder that holds `png` and `svg`.
        target: The archive.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for record in images:
            path = str(record["source"])
            if not is_public_domain((root / "svg" / path).with_suffix(".svg")):
                raise SystemExit(f"{path}: its SVG does not say public domain")
            with Image.open(root / "png" / path) as image:
                small = square(image)
            data = io.BytesIO()
            small.save(data, "WEBP", lossless=True, quality=100, method=6)
            entry = zipfile.ZipInfo(str(record["id"]), date_time=(1980, 1, 1, 0, 0, 0))
            # Fixed, for the default differs between systems.
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, data.getvalue())


def main() -> None:
    """Makes the archive and its list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/openclipart"))
    work = parser.parse_args().work
    classes = json.loads(CLASSES.read_text())
    root = fetch_packages(work)
    images = list_images(classes)
    ASSETS.mkdir(parents=True, exist_ok=True)
    archive = ASSETS / "images.zip"
    write_archive(images, root, archive)
    lines = ",\n".join(f"  {json.dumps(record)}" for record in images)
    head = json.dumps(list(classes))
    (ASSETS / "clipart.json").write_text(f'{{"classes": {head},\n "images": [\n{lines}\n ]}}\n')
    n_bytes = archive.stat().st_size
    if n_bytes > MAX_ARCHIVE_BYTES:
        raise SystemExit(f"{archive} has {n_bytes} bytes, more than {MAX_ARCHIVE_BYTES}")
    print(f"{len(images)} pictures of {SIDE} pixels, {n_bytes} bytes, {archive}")


if __name__ == "__main__":
    main()
