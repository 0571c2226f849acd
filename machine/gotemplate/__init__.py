"""Render Go's text/template for `--format`, with Podman's functions and Go's error messages.

Templates with `define`, `template`, `block`, `call` or complex numbers are rejected as unsupported.
Strings are measured in bytes, as in Go. Reference: the documentation of Go's text/template.
"""

from __future__ import annotations

from machine.gotemplate.evaluate import Template
from machine.gotemplate.values import STRING_MAP, MapHeading, Struct, TemplateError, Value, structure

__all__ = ["STRING_MAP", "MapHeading", "Struct", "Template", "TemplateError", "Value", "structure"]
