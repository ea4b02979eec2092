"""The pipeline's topics on real brokers: made as `deploy/kafka/topics.yaml` has them."""

from collections.abc import Mapping

from sealtrail_local.real import commands


def apply(environment: Mapping[str, str]) -> None:
    """Run `sealtrail topics apply`: another room's command, by which any cluster gets its topics.

    Args:
        environment: variables that name the brokers.

    Raises:
        UnavailableError: it failed, or left something that it refuses to change.
    """
    hint = "`sealtrail topics plan` shows what is another"
    commands.run(environment, "topics", "apply", hint=hint)
