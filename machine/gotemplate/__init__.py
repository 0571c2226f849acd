"""Go templates, as people write them for Podman's `--format`: the actions, the functions and the errors' texts.

What is left out says so where it is met: `define`, `template`, `block`, `call`, complex numbers. Strings count in
bytes, as Go's do. Reference: the documentation of Go's text/template.
"""

from __future__ import annotations

from machine.gotemplate.evaluate import Template
from machine.gotemplate.values import Struct, TemplateError, Value, structure

__all__ = ["Struct", "Template", "TemplateError", "Value", "structure"]
