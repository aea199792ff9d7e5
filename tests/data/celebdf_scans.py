"""Scans of small Celeb-DF trees, as several tests take them."""

from tokd_lightning.data.layouts.celebdf import list_celebdf, scan_celebdf
from tokd_lightning.data.manifest import check

VAL = {"val_fraction": 0.4}


def scan(root, **options):
    found = scan_celebdf(root, **(VAL | options))
    check(found.manifest, found.apart)
    return found


def videos(root, **options):
    return scan(root, **options).manifest.drop_duplicates(["dataset", "method", "video"])


def listed(root, **options):
    return {v.name: v for v in list_celebdf(root, **(VAL | options))}
