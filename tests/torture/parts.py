"""The kinds of faults, in the order of the first round of each."""

from typing import Final

from tests.torture.power_cut import power_cut
from tests.torture.round import Part

PARTS: Final[dict[str, Part]] = {
    "power-cut": power_cut,
}
