"""The stage itself: the pictures of pairs.jsonl and images.jsonl -> a feature store, resumably."""

from pathlib import Path

from tqdm import tqdm

from data_prep.pictures import read_picture
from data_prep.regions.boxes import pool
from data_prep.regions.detector import CLASS_NAMES, MAP_DIM, Detections, Detector
from data_prep.stage import WHOLE, Shard, Work
from unimo.errors import ConfigError, DataError
from unimo.readers.annotations import read_images, read_pairs
from unimo.readers.feature_store import RegionRecord, StoreWriter


def build(
    pairs: Path | None,
    images: Path | None,
    out: Path,
    extractor: str = "opencv-ssd",
    min_boxes: int = 10,
    max_boxes: int = 36,
    threshold: float = 0.2,
    shard: Shard = WHOLE,
    cache: Path | None = None,
) -> str:
    """Add the regions of every picture that the store `out` does not hold yet, and say what was done.

    Pictures that cannot be decoded are left out and listed.

    Args:
        extractor: "opencv-ssd" (features from the detector's own last map, 1280-d) or "resnet50" (2048-d).

    Raises:
        DataError: no weights, no usable picture, or a store that was written with other settings.
    """
    if min_boxes > max_boxes:
        raise ConfigError(f"--min-boxes ({min_boxes}) is above --max-boxes ({max_boxes})")
    files = dict(shard.of(list(_picture_files(pairs, images).items())))
    detect = Detector(min_boxes, max_boxes, threshold, cache)
    extract, feature_dim, description = _map_features, MAP_DIM, detect.description
    packages = [detect.package.record()]
    if extractor == "resnet50":
        from data_prep.regions.resnet import FEATURE_DIM, ResNetFeatures

        resnet = ResNetFeatures(cache)
        feature_dim, description = FEATURE_DIM, {**description, **resnet.description, "name": "opencv-ssd+resnet50"}
        packages.append(resnet.package.record())

        def extract(picture, found):
            return resnet(picture, found.boxes)

    out = shard.place(out)
    inputs = [path for path in (pairs, images) if path]
    work = Work("regions extract", out, description, inputs, shard, packages, ("opencv-contrib-python", "numpy"))
    with StoreWriter(out, feature_dim=feature_dim, class_names=CLASS_NAMES, extractor=description) as store:
        todo = {image_id: file for image_id, file in files.items() if image_id not in store}
        for image_id, file in tqdm(todo.items(), desc="regions", unit="image"):
            try:
                picture = read_picture(file)
            except DataError as error:
                work.reject(image_id, "picture cannot be decoded", str(error))
                continue
            found = detect(picture)
            store.add(_record(image_id, picture.shape, found, extract(picture, found)))
        return work.finish({"images": len(store)}, "images", len(todo) - len(work.rejects))


def _picture_files(pairs: Path | None, images: Path | None) -> dict[str, Path]:
    """Image id -> file, of both lists."""
    if pairs is None and images is None:
        raise ConfigError("give --pairs, --images or both")
    files = {pair.image_id: pairs.parent / pair.image for pair in (read_pairs(pairs) if pairs else [])}
    for image in read_images(images) if images else []:
        file = images.parent / image.image
        if files.setdefault(image.image_id, file) != file:
            raise DataError(
                f"image id {image.image_id!r} names {files[image.image_id]} in {pairs} and {file} in {images}"
            )
    return files


def _map_features(_, found: Detections):
    return pool(found.feature_map, found.boxes)


def _record(image_id: str, shape: tuple[int, ...], found: Detections, features) -> RegionRecord:
    height, width = shape[:2]
    return RegionRecord(
        image_id=image_id,
        width=width,
        height=height,
        features=features,
        boxes=found.boxes * [width, height, width, height],  # pixels
        classes=found.classes,
        scores=found.scores,
        class_probs=found.class_probs,
    )
