"""USB devices as podman has them written, and its errors."""

from __future__ import annotations

import pytest

from machine.errors import BadInputError
from machine.model.usb import UsbDevice, parse_usb, usb_texts


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("bus=1,devnum=12", UsbDevice(bus=1, devnum=12)),
        ("devnum=3,bus=002", UsbDevice(bus=2, devnum=3)),
        ("vendor=13d3,product=5406", UsbDevice(vendor=0x13D3, product=0x5406)),
        ("product=5406,vendor=13D3", UsbDevice(vendor=0x13D3, product=0x5406)),
    ],
)
def test_device_in_either_form_and_order(text: str, device: UsbDevice) -> None:
    assert parse_usb(text) == device
    assert parse_usb(str(device)) == device


HEX = "write the four hexadecimal digits that lsusb shows"
DECIMAL = "write the decimal number that lsusb shows"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("bus=1", "usb: fail to parse: missing ',': bus=1"),
        ("bus=1,devnum=2,x=3", "usb: fail to parse: missing ',': bus=1,devnum=2,x=3"),
        ("bus=1,devnum", "usb: fail to parse: missing '=': bus=1,devnum"),
        ("bus=1,product=2", "usb: fail to parse: bus=1,product=2; write bus=B,devnum=D or vendor=HEX,product=HEX"),
        ("bus=1,bus=2", "usb: fail to parse: bus=1,bus=2; write bus=B,devnum=D or vendor=HEX,product=HEX"),
        ("vendor=xyz,product=1", f"usb: fail to convert vendor of vendor=xyz,product=1; {HEX}"),
        ("vendor=1,product=12345", f"usb: fail to convert product of vendor=1,product=12345; {HEX}"),
        ("bus=0,devnum=1", f"usb: fail to convert bus of bus=0,devnum=1; {DECIMAL}"),
        ("bus=1,devnum=", f"usb: fail to convert devnum of bus=1,devnum=; {DECIMAL}"),
    ],
)
def test_what_is_no_device(text: str, line: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_usb(text)
    assert caught.value.line == line


def test_empty_text_asks_for_none() -> None:
    assert usb_texts(("", "bus=01,devnum=2")) == ("bus=1,devnum=2",)
    assert usb_texts(("",)) == ()
