"""De-duplication of an audience on E.164, across all its partitions."""

import numpy as np
import pandas as pd

_STRICTNESS = {"yes": 0, "": 1, "no": 2}


def deduplicate(people: pd.DataFrame) -> pd.DataFrame:
    """Say of every record whether an earlier one has its number, and what both say of consent.

    `people`: index `row`; columns `e164` (missing where the number is not usable), `opt_in`
    ("yes", "no" or missing), `opt_in_at` (UTC). Returns, with the same index: `first_row` (the
    row that wins; its own where it does) and `opt_in`, `opt_in_at` of the strictest in the group:
    a "no" beats silence, silence beats a "yes", and an older or undated consent a newer one. A
    record without a usable number stands for itself.
    """
    rows = people.index.to_numpy()
    usable = people["e164"].notna()
    # Text of one length and ten digits more: as an integer a number compares in one step.
    number = people["e164"].where(usable, "+0").str.slice(1).astype("int64")
    group = number.where(usable, -pd.Series(rows, index=people.index) - 1)
    said = people["opt_in"].fillna("").map(_STRICTNESS).astype("int8")
    moment = pd.Series(people["opt_in_at"].astype("datetime64[us, UTC]"), index=people.index)
    undated = moment.isna() & (said == 0)
    # NaT would be skipped by `min`; an undated consent must win as the oldest.
    epoch = moment.where(~undated, pd.Timestamp(0, tz="UTC"))
    grouped = pd.DataFrame({"row": rows, "said": said, "at": epoch}).groupby(group, sort=False)
    strictest = grouped["said"].transform("max")
    oldest = grouped["at"].transform("min")
    names = np.array(["yes", "", "no"], dtype=object)[strictest.to_numpy()]
    opt_in = pd.Series(names, index=people.index, dtype="str")
    return pd.DataFrame(
        {
            "first_row": grouped["row"].transform("first"),
            "opt_in": opt_in.where(opt_in != ""),
            "opt_in_at": oldest.where(oldest > pd.Timestamp(0, tz="UTC")),
        },
        index=people.index,
    )
