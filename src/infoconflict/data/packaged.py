"""Film reviews that come inside a pinned package: sentences with the mean of human ratings from -4 to 4.

Data: Hutto and Gilbert 2014 (ICWSM), sentences of Pang and Lee's reviews, each rated by at least 20 people.
"""

import html
import tarfile
import tempfile
import zlib
from pathlib import Path

from infoconflict.data.rows import RawRow, normal_text
from infoconflict.errors import UserError
from infoconflict.files import PathLike
from infoconflict.packages import extract_member

REVIEWS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"


def read_film_reviews(archive: PathLike, *, package: str, min_abs_rating: float) -> tuple[list[RawRow], dict[str, int]]:
    """Return the reviews labelled ``negative`` or ``positive`` by the sign of their rating, and what was left out.

    Parameters
    ----------
    archive : path
        The package's file, as fetched.
    package : str
        Its name in the config.
    min_abs_rating : float in [0, 4]
        Reviews rated nearer to 0 than this are left out, as are those rated exactly 0.

    Raises
    ------
    UserError
        If the file is absent, has another digest than the pinned one, or is not laid out as expected.
    """
    with tempfile.TemporaryDirectory() as folder:
        inner = Path(folder, "reviews.tar.gz")
        extract_member(package, archive, inner)
        try:
            with tarfile.open(inner, "r:gz") as files:
                member = files.extractfile(REVIEWS)
                content = member.read().decode("utf-8") if member else ""
        except (KeyError, tarfile.TarError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise UserError(
                f"{archive}: cannot read {REVIEWS} ({error}); delete the file and fetch it again"
            ) from error
    return parse_film_reviews(content, where=REVIEWS, min_abs_rating=min_abs_rating)


def parse_film_reviews(content: str, *, where: str, min_abs_rating: float) -> tuple[list[RawRow], dict[str, int]]:
    """Return rows and the number left out, from lines of id, mean rating and text, tab-separated."""
    rows, near_neutral = [], 0
    for number, line in enumerate(content.splitlines(), start=1):
        fields = line.split("\t")
        try:
            rating, raw_text = float(fields[1]), fields[2]
        except (IndexError, ValueError) as error:
            raise UserError(f"{where}, line {number}: expected id, rating and text; fetch the package again") from error
        # The reviews were scraped: "Lovely &amp; Amazing".
        text = normal_text(html.unescape(raw_text), f"{where}, line {number}")
        if rating == 0 or abs(rating) < min_abs_rating:
            near_neutral += 1
        else:
            rows.append(RawRow(number=number, text=text, label="positive" if rating > 0 else "negative"))
    return rows, {"near_neutral": near_neutral}
