"""Go's text/template, as people use it with Podman's `--format`: actions, functions and error messages.

`define`, `template`, `block`, `call` and complex numbers are not supported; a template that uses them is refused.
Strings are measured in bytes, as in Go. Reference: the documentation of Go's text/template.
"""

from __future__ import annotations

from machine.gotemplate.evaluate import Template
from machine.gotemplate.values import Struct, TemplateError, Value, structure

__all__ = ["Struct", "Template", "TemplateError", "Value", "structure"]
