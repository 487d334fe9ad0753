"""The pages on which people recover, look after and delete their account, in Chromium against a running server."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.media_page import PATIENCE_S
from tests.e2e.pages import People, accessibility_problems, sign_in
from tests.e2e.server import Account, LacServer

pytestmark = pytest.mark.e2e

NEW_PASSWORD = "quite another password"


@pytest.fixture
def people(chromium: Browser, server: LacServer) -> Iterator[People]:
    """What a console complains about fails the test."""
    everybody = People(chromium, server.url)
    try:
        yield everybody
    finally:
        everybody.close()
    assert not everybody.complaints, everybody.complaints


def mailed_path(server: LacServer, email: str, page: str) -> str:
    """Path and token of the link that the console mail to this address has."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        printed = "\n".join(server.output)
        mails = re.findall(rf"^--- e-mail to {re.escape(email)}:.*?^---$", printed, re.MULTILINE | re.DOTALL)
        if found := [link[0] for mail in mails if (link := re.search(rf"/{page}#token=\S+", mail))]:
            return found[-1]
        assert time.monotonic() < deadline, f"no mail with /{page} to {email}:\n{server.log()}"
        time.sleep(0.05)


def main_link(page: Page, name: str) -> None:
    page.get_by_role("main").get_by_role("link", name=name, exact=True).click()


def test_a_forgotten_password_is_reset_and_the_account_deleted(
    people: People, server: LacServer, tmp_path: Path
) -> None:
    account = server.register("Petra")
    page = people.arrive()
    problems: list[str] = []

    page.goto("/login")
    page.get_by_label("E-mail").fill(account.email)
    page.get_by_role("link", name="Forgot your password?").click()
    expect(page.get_by_role("heading", name="Forgot your password?")).to_be_visible()
    problems += accessibility_problems(page)
    page.get_by_role("button", name="Send the link").click()
    expect(page.get_by_role("heading", name="Look into your mail")).to_be_focused()

    link = mailed_path(server, account.email, "reset-password")
    page.goto(link)
    page.get_by_label("New password", exact=True).fill(NEW_PASSWORD)
    problems += accessibility_problems(page)
    page.get_by_role("button", name="Set new password").click()
    expect(page.get_by_role("heading", name="Your new password is set")).to_be_focused()
    main_link(page, "Sign in")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()

    # The same link once more: a refused request, which the console reports.
    people.tolerate(page, r"status of 403")
    page.goto("/")
    page.goto(link)
    page.get_by_label("New password", exact=True).fill(NEW_PASSWORD)
    page.get_by_role("button", name="Set new password").click()
    expect(page.get_by_role("heading", name="This link does not work any more")).to_be_focused()

    # The mail of the registration still confirms the address, or finds it confirmed.
    page.goto(mailed_path(server, account.email, "verify-email"))
    expect(page.get_by_role("button", name="Confirm my address")).to_be_visible()
    problems += accessibility_problems(page)

    sign_in(page, Account(account.user_id, account.token, account.email, NEW_PASSWORD))
    page.get_by_role("link", name="Account of").click()
    expect(page.get_by_role("region", name="E-mail").get_by_text("Confirmed", exact=True)).to_be_visible()
    problems += accessibility_problems(page)

    with page.expect_download() as downloading:
        page.get_by_role("button", name="Download my data").click()
    export = tmp_path / downloading.value.suggested_filename
    downloading.value.save_as(export)
    assert export.name == "liveaudiocast-export.json"
    assert json.loads(export.read_text())["account"]["email"] == account.email

    page.get_by_role("button", name="Delete my account").click()
    dialog = page.get_by_role("dialog", name="Delete your account?")
    field = dialog.get_by_label("Your password", exact=True)
    expect(field).to_be_focused()
    field.fill(account.password)
    field.press("Enter")
    expect(dialog.get_by_text("The password is wrong.")).to_be_visible()
    field.fill(NEW_PASSWORD)
    dialog.get_by_role("button", name="Delete for good").click()
    expect(page.get_by_role("heading", name="Your account is deleted")).to_be_focused()

    response = server.http.post(f"{server.url}/api/auth/login", json={"email": account.email, "password": NEW_PASSWORD})
    assert response.status_code == 401
    assert not problems, problems
