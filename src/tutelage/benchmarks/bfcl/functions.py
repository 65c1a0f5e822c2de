"""The functions of the eight simulated systems."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

SYSTEMS: Mapping[str, str] = MappingProxyType(
    {
        "GorillaFileSystem": "gorilla_file_system.json",
        "MathAPI": "math_api.json",
        "MessageAPI": "message_api.json",
        "TicketAPI": "ticket_api.json",
        "TradingBot": "trading_bot.json",
        "TravelAPI": "travel_booking.json",
        "TwitterAPI": "posting_api.json",
        "VehicleControlAPI": "vehicle_control.json",
    }
)
"""Systems that multi-turn items use, and the files that describe them."""

_READS = """
    cat diff du find grep ls pwd sort tail wc
    absolute_value add divide imperial_si_conversion logarithm max_value mean min_value multiply
    percentage power round_number si_unit_conversion square_root standard_deviation subtract
    sum_values
    get_message_stats get_user_id list_users message_get_login_status search_messages
    view_messages_sent
    get_tweet get_tweet_comments get_user_stats get_user_tweets list_all_following
    posting_get_login_status search_tweets
    get_ticket get_user_tickets ticket_get_login_status
    filter_stocks_by_price get_account_info get_available_stocks get_current_time get_order_details
    get_order_history get_stock_info get_symbol_by_name get_transaction_history get_watchlist
    notify_price_change trading_get_login_status
    compute_exchange_rate get_all_credit_cards get_booking_history get_budget_fiscal_year
    get_credit_card_balance get_flight_cost get_nearest_airport_by_city list_all_airports
    retrieve_invoice travel_get_login_status verify_traveler_information
    check_tire_pressure displayCarStatus display_log estimate_distance
    estimate_drive_feasibility_by_mileage find_nearest_tire_shop gallon_to_liter get_current_speed
    get_outside_temperature_from_google get_outside_temperature_from_weather_com
    get_zipcode_based_on_city liter_to_gallon
    """
READS = frozenset(_READS.split())
"""Functions that change nothing."""

_LEAD = "Tool description: "


class Functions:
    """What the package documents of its functions.

    Args:
        data: The package's folder ``data``.
    """

    def __init__(self, data: Path) -> None:
        self._of: dict[str, dict[str, Mapping[str, Any]]] = {}
        for system, file in SYSTEMS.items():
            lines = (data / "multi_turn_func_doc" / file).read_text("utf-8").splitlines()
            described = [json.loads(line) for line in lines if line.strip()]
            self._of[system] = {one["name"]: one for one in described}

    def names(self, systems: Sequence[str]) -> tuple[str, ...]:
        """Functions of some systems."""
        return tuple(name for system in systems for name in self._of[system])

    def parameters(self, systems: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Names of arguments by function, in their order."""
        return {
            name: tuple(described["parameters"]["properties"])
            for system in systems
            for name, described in self._of[system].items()
        }

    def listing(self, systems: Sequence[str], names: Collection[str]) -> str:
        """One line a function: signature, with ``?`` at arguments that may be left out."""
        return "\n".join(
            _line(described)
            for system in systems
            for name, described in self._of[system].items()
            if name in names
        )


def _line(described: Mapping[str, Any]) -> str:
    parameters = described["parameters"]
    needed = parameters.get("required", ())
    arguments = ", ".join(
        f"{name}{'' if name in needed else '?'}: {of['type']}"
        for name, of in parameters["properties"].items()
    )
    about = str(described["description"])
    about = about.partition(_LEAD)[2] or about
    return f"{described['name']}({arguments}): {about.partition('. ')[0].strip().rstrip('.')}."
