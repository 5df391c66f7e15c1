"""Whether a list of pictures and a feature store speak of the same pictures."""

from collections.abc import Iterable

from unimo.console import say
from unimo.errors import DataError
from unimo.readers.feature_store import FeatureStore


def with_regions(image_ids: Iterable[str], store: FeatureStore) -> list[str]:
    """Those of the pictures that the store has, in their order; a notice says how many where some are missing.

    Raises:
        DataError: it has none of them.
    """
    wanted = list(image_ids)
    found = [image_id for image_id in wanted if image_id in store]
    said = f"{len(found):,} of {len(wanted):,} pictures have regions in {store.path}"
    if wanted and not found:
        names = f"{wanted[0]!r} in the list and {store.ids[0]!r} in the store" if store.ids else "the store is empty"
        raise DataError(
            f"{said}; the two call pictures differently, such as {names}. `regions import --ids` names pictures as "
            "`corpora pairs` does"
        )
    if len(found) < len(wanted):
        say(f"notice: {said}")
    return found
