"""Which gateway sends to whom, and which stands in when one fails. Does not import Prefect.

A run keeps its route as it was planned. A gateway that is taken out gets no new message; what it
may have accepted stays with it. Statements are in `data/switches`, how a route is written in
`adapters/gateways/route`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from adapters.gateways import ADAPTERS
from adapters.gateways.base import GatewayError
from adapters.gateways.route import Leg, RouteSettings
from data import switches
from data.switches import Move
from data.tables import CampaignRun
from tasks.composition import MAX_TEXT


@dataclass(frozen=True)
class Route:
    """The gateways of a run. A campaign that names one gateway has a route of that alone."""

    legs: Sequence[Leg]
    senders: Mapping[str, str] = field(default_factory=dict)
    """The sender that each gateway sends from."""
    longest: int = MAX_TEXT
    """Characters that all of them take."""

    @classmethod
    def single(cls, gateway: str, sender: str) -> "Route":
        """The route of one gateway."""
        return cls([Leg((), {gateway: 1})], {gateway: sender})

    @property
    def gateways(self) -> list[str]:
        """All gateways, each once."""
        return list(dict.fromkeys(name for leg in self.legs for name in leg.gateways))

    def stored(self) -> dict[str, Any]:
        """Return it as a run stores it."""
        legs = [leg.stored() for leg in self.legs]
        return {"legs": legs, "senders": dict(self.senders), "longest": self.longest}

    def choose(self, countries: pd.Series, ids: pd.Series) -> pd.Series:
        """Return the gateway for each message, by its country and, for shares, its id.

        Empty where no rule names the country. The same ids give the same gateways.
        """
        chosen = pd.Series("", index=countries.index, dtype="str")
        places = pd.util.hash_array(ids.to_numpy(dtype=object)) % 1_000_000 / 1_000_000
        for leg, _ in self._scopes():
            here = (chosen == "") & (countries.isin(leg.countries) if leg.countries else True)
            whole, below = sum(leg.shares.values()), 0
            for name, share in leg.shares.items():
                within = (places >= below / whole) & (places < (below + share) / whole)
                chosen = chosen.mask(here & within, name)
                below += share
        return chosen

    def moves(self, out: set[str]) -> Iterator[Move]:
        """Yield what moves from the gateways in `out`, where there is another."""
        for leg, others in self._scopes():
            standing = [name for name in leg.gateways if name not in out]
            for name in leg.gateways:
                if name in out and standing:
                    to = standing[0]
                    yield Move(name, to, self.senders.get(to, ""), leg.countries, others)

    def abandoned(self, out: set[str]) -> Iterator[tuple[str, Sequence[str], Sequence[str]]]:
        """Yield each gateway of a leg that has none left, with the leg's countries."""
        for leg, others in self._scopes():
            if out.issuperset(leg.gateways):
                for name in leg.gateways:
                    yield name, leg.countries, others

    def _scopes(self) -> Iterator[tuple[Leg, list[str]]]:
        """Yield each leg with the countries that other legs name."""
        for leg in self.legs:
            yield leg, [code for other in self.legs for code in other.countries]


def route_of(run: CampaignRun) -> Route:
    """Return a run's route as it was planned."""
    if not run.route:
        return Route.single(run.gateway, run.sender)
    legs = [
        Leg(tuple(leg["countries"]), leg["shares"], tuple(leg["fallbacks"]))
        for leg in run.route["legs"]
    ]
    return Route(legs, run.route["senders"], run.route["longest"])


def resolve(name: str, settings: Mapping[str, Any], sender: str) -> Route:
    """Make the route of a campaign that names a saved gateway or route.

    `settings` are those of all saved ones, by name; `sender` is the campaign's, where it has one.
    Raises `GatewayError` where the route names a gateway that is not saved, or another route.
    """
    named = settings[name]
    legs = named.legs if isinstance(named, RouteSettings) else [Leg((), {name: 1})]
    route = Route(legs)
    for gateway in route.gateways:
        found = settings.get(gateway)
        if found is None or found.kind == "route":
            what = "is no gateway but a route" if found else "is not saved"
            raise GatewayError(
                f"route {name}: {gateway} {what}: `sms gateway list` shows what there is"
            )
    return Route(
        legs,
        {gateway: sender or settings[gateway].sender for gateway in route.gateways},
        min(ADAPTERS[type(settings[gateway])].capabilities.max_text for gateway in route.gateways),
    )


def switch(run: CampaignRun, gateway: str, reason: str) -> bool:
    """Take a gateway out of a run; False where nobody stands in for it, and nothing was done."""
    route, out = route_of(run), switches.out(run.id) | {gateway}
    stands_in = any(move.gateway == gateway for move in route.moves(out))
    if not stands_in or any(switches.has_waiting(run.id, *left) for left in route.abandoned(out)):
        return False
    switches.take_out(run.id, gateway, reason, list(route.moves(out)))
    return True


def move_waiting(run: CampaignRun) -> int:
    """Give what waits for gateways that are out to those that stand in; return how many moved."""
    out = switches.out(run.id)
    return switches.move(run.id, list(route_of(run).moves(out))) if out else 0
