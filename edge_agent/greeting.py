"""How an agent enters: its greeting to the hub, and the certificate that it enters with."""

import logging
import time
from typing import TYPE_CHECKING

from edge_agent.errors import RefusedError
from wire.messages import Hello, Refused, Reply
from wire.version import LORIKEET_VERSION, WIRE_VERSION

if TYPE_CHECKING:
    from edge_agent.agent import Supervisor

log = logging.getLogger(__name__)


class Greeting:
    """Greets until the hub took the session.

    Args:
        agent: whose session it is.

    Attributes:
        request: id of the greeting that waits for an answer, or was answered last.
    """

    def __init__(self, agent: "Supervisor") -> None:
        self._agent = agent
        self.request: str | None = None

    def greet(self) -> None:
        """Greet the hub, if the broker is there."""
        agent = self._agent
        if not agent.link.connected:
            return
        if self.request is not None:
            agent.asking.forget(self.request)
        self.request = f"{agent.session}-{agent.asking.new_id()}"
        hello = Hello(
            id=self.request,
            session=agent.session,
            agent_version=LORIKEET_VERSION,
            wire_version=WIRE_VERSION,
        )
        agent.asking.ask(self.request, hello, self._on_greeted, time.monotonic())

    def on_renewed(self) -> None:
        """Go on with the new certificate: the link shows it when it next connects."""
        agent = self._agent
        log.info("the certificate was renewed: %s days left", agent.renewing.days_left)
        if agent.welcomed:
            agent.teller.telemetry()
        else:
            self.greet()

    def on_not_renewed(self, reason: str) -> None:
        """Say that there is no new certificate yet."""
        agent = self._agent
        agent.quiet.warn("renewal", f"the certificate was not renewed: {reason}")
        if agent.welcomed:
            agent.teller.event("certificate", f"not renewed: {reason}"[:200])

    def _on_greeted(self, reply: Reply) -> None:
        agent = self._agent
        if isinstance(reply, Refused):
            if reply.final:
                # Whoever may publish here can forge this: the id stands on a topic. Nothing that
                # both sides know is secret, so only the broker's access list can prevent it.
                raise RefusedError(reply.reason)
            log.warning("the hub asks to wait: %s", reply.reason)
            return
        if not agent.welcomed:
            log.info("the hub took this session")
        agent.welcomed = True
        agent.teller.state(*agent.resting.state)
        agent.teller.info()
        agent.calibrating.begin()
        agent.asking.repeat_all(time.monotonic())
        agent.tasks.uploads.ask_again(time.monotonic())
