"""The kinds of faults, in the order of the first round of each."""

from typing import Final

from tests.torture.access import check_access
from tests.torture.clock import clock
from tests.torture.failing_service import full_disk
from tests.torture.file_cuts import file_cuts
from tests.torture.hostile_http import hostile_http
from tests.torture.nth_operation import nth_operation
from tests.torture.operators import operators
from tests.torture.power_cut import power_cut
from tests.torture.processes import processes
from tests.torture.round import Part
from tests.torture.soak import soak
from tests.torture.wechat import wechat

PARTS: Final[dict[str, Part]] = {
    "processes": processes,
    "power-cut": power_cut,
    "power-cut-files": file_cuts,
    "nth-operation": nth_operation,
    "full-disk": full_disk,
    "wechat": wechat,
    "clock": clock,
    "hostile-http": hostile_http,
    "access": check_access,
    "operators": operators,
    "soak": soak,
}
