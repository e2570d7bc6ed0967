# SPDX-License-Identifier: Apache-2.0
"""What cores keep in the cloud, waited for."""

from cnsmo.bus.clients import OperatorClient
from cnsmo.model.messages import ProviderStatus
from tests.eventually import eventually

PATIENCE = 120


def kept(operator: OperatorClient, service: str) -> ProviderStatus | None:
    return next((one for one in operator.provider_list("shop") if one.service == service), None)


def in_state(operator: OperatorClient, service: str, *states: str) -> ProviderStatus:
    """The status of the one instance of a service, once it is that of what is declared now."""

    def look() -> ProviderStatus | None:
        found = kept(operator, service)
        return found if found and found.current and found.state in states else None

    try:
        return eventually(look, PATIENCE, f"{service} is {' or '.join(states)}")
    except AssertionError as error:
        raise AssertionError(f"{error}: {kept(operator, service)}") from error


def gone(operator: OperatorClient, service: str) -> None:
    eventually(lambda: kept(operator, service) is None, PATIENCE, f"{service} is gone")
