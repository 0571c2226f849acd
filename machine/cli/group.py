"""Groups of commands that know what a mistyped one may have been."""

from __future__ import annotations

from collections.abc import Sequence

import click


class SuggestingGroup(click.Group):
    """A group whose error for an unknown command is podman's, with the nearest that there are."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.get_command(ctx, args[0]) is not None
        # A shell that completes such a line wants no error.
        if not known and not args[0].startswith("-") and not ctx.resilient_parsing:
            near = similar(args[0], self.spellings(ctx))
            suggestion = f"; did you mean {' or '.join(near)}?" if near else ""
            raise click.UsageError(f"unrecognized command `{ctx.command_path} {args[0]}`{suggestion}", ctx)
        return super().resolve_command(ctx, args)

    def spellings(self, ctx: click.Context) -> list[str]:
        """Every word that is a command."""
        return self.list_commands(ctx)


def similar(word: str, known: Sequence[str]) -> list[str]:
    """What may have been meant, the likeliest first: commands that differ little, and those that begin so (pure)."""
    import difflib

    lower = word.lower()
    near = difflib.get_close_matches(lower, known, cutoff=0.75)
    begun = [name for name in known if lower and name.startswith(lower)]
    return list(dict.fromkeys([*near, *begun]))
