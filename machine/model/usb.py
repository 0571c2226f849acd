"""Parse the USB devices of the host that are passed to a machine. The error messages are podman's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from machine.errors import BadInputError

_PAIRS = (("bus", "devnum"), ("vendor", "product"))


@dataclass(frozen=True, kw_only=True)
class UsbDevice:
    """A USB device of the host, given by where it is (`bus`, `devnum`) or by its kind (`vendor`, `product`).

    Two of the four fields are zero.
    """

    bus: int = 0
    devnum: int = 0
    vendor: int = 0
    product: int = 0

    def __str__(self) -> str:
        if self.bus:
            return f"bus={self.bus},devnum={self.devnum}"
        return f"vendor={self.vendor:04x},product={self.product:04x}"


def parse_usb(text: str) -> UsbDevice:
    """Parse `bus=B,devnum=D` or `vendor=HEX,product=HEX`, in either order.

    Raises:
        BadInputError: `text` has another form, or a number in it is not valid.
    """
    halves = text.split(",")
    if len(halves) != 2:
        raise BadInputError(f"usb: fail to parse: missing ',': {text}")
    pairs = [half.split("=") for half in halves]
    if any(len(pair) != 2 for pair in pairs):
        raise BadInputError(f"usb: fail to parse: missing '=': {text}")
    values = dict(pairs)
    keys = next((keys for keys in _PAIRS if set(keys) == set(values)), None)
    if keys is None:
        raise BadInputError(f"usb: fail to parse: {text}", hint="write bus=B,devnum=D or vendor=HEX,product=HEX")
    numbers = {key: _number(key, values[key], text) for key in keys}
    return UsbDevice(**numbers)


def usb_texts(texts: Sequence[str]) -> tuple[str, ...]:
    """Return USB devices in the notation of records, without empty texts.

    Raises:
        BadInputError: a text does not name a device.
    """
    return tuple(str(parse_usb(text)) for text in texts if text)


def _number(key: str, value: str, text: str) -> int:
    if key in ("bus", "devnum"):
        if re.fullmatch(r"[0-9]{1,3}", value) and int(value) > 0:
            return int(value)
        raise BadInputError(f"usb: fail to convert {key} of {text}", hint="write the decimal number that lsusb shows")
    if re.fullmatch(r"[0-9a-fA-F]{1,4}", value):
        return int(value, 16)
    raise BadInputError(
        f"usb: fail to convert {key} of {text}", hint="write the four hexadecimal digits that lsusb shows"
    )
