"""What the network tells of agreements and activities, passed on to the instances concerned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from requestor_sdk.engine.contracts import end_agreement
from requestor_sdk.model.errors import ProviderLost
from requestor_sdk.model.lifecycle import Stimulus
from requestor_sdk.model.market import ActivityChanged, ActivityState, AgreementEnded

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core
    from requestor_sdk.engine.instance import Instance


class News:
    """Passes on what the network tells.

    Args:
        core: What the engine shares.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    async def agreements_ended(self, found: Sequence[AgreementEnded]) -> None:
        """Providers ended agreements: their instances stop, or are tried again."""
        for ended in found:
            member = self._core.attached.get(ended.agreement_id)
            attempt = member.attempt if member else None
            if member is None or attempt is None:
                self._ended_between_activities(ended)
                continue
            attempt.contract.ended_by = "provider"
            lost = ProviderLost(
                f"{attempt.contract.provider_name} ended the agreement: {ended.reason.message}",
                ids={"instance": member.id, "agreement": ended.agreement_id},
                story=self._core.story(instance=member.id),
            )
            member.post(Stimulus.agreement_ended, error=lost, attempt=attempt.number)

    def _ended_between_activities(self, ended: AgreementEnded) -> None:
        contract = self._core.billing.contract(ended.agreement_id)
        if contract is not None and contract.ended is None:
            contract.ended_by = "provider"
            self._core.try_spawn(
                end_agreement(self._core, contract, ended.reason), f"{contract.instance_id} end"
            )

    async def activities_changed(self, found: Sequence[ActivityChanged]) -> None:
        """Providers report states: a terminated activity is dead, a silent one unresponsive."""
        for change in found:
            member = self._core.attached.get(change.activity_id)
            if member is None or member.attempt is None:
                continue
            if change.state is ActivityState.terminated:
                self._lost(member, change)
            elif change.state is ActivityState.unresponsive:
                self._core.health.silent(member)
            else:
                self._core.health.answers(member)

    def _lost(self, member: Instance, change: ActivityChanged) -> None:
        attempt = member.attempt
        assert attempt is not None
        lost = ProviderLost(
            f"the activity ended on {attempt.contract.provider_name}: "
            f"{change.reason or 'no reason was given'}",
            ids={"instance": member.id, "activity": change.activity_id},
            story=self._core.story(instance=member.id),
        )
        member.post(Stimulus.lost, error=lost, attempt=attempt.number)
