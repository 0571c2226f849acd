"""Go's text/template for `--format`, with Podman's functions and Go's error messages.

`define`, `template`, `block`, `call` and complex numbers are not supported; templates that use them are rejected.
Strings are measured in bytes, as in Go. Reference: the documentation of Go's text/template.
"""

from __future__ import annotations

from machine.gotemplate.evaluate import Template
from machine.gotemplate.values import Struct, TemplateError, Value, structure

__all__ = ["Struct", "Template", "TemplateError", "Value", "structure"]
