"""What a user of PyPI's mushu-sdk 0.2.20 does, against a server that is named by the environment. It asserts what the
package parses, and prints what the caller compares with the providers."""

import asyncio
import json
import os

from mushu import NotifyWrapper
from mushu.notify import Client, errors
from mushu.notify.api.analytics import get_analytics, get_timeseries
from mushu.notify.api.apps import (
    create_notify_api_key,
    delete_notify_api_key,
    get_notify_config,
    list_notify_api_keys,
    list_notify_configs,
)
from mushu.notify.api.devices import list_devices, register_device, unregister_device
from mushu.notify.api.health import health_check_health_get, root_get
from mushu.notify.api.notify import send_bulk_push, send_push, send_unified_notify
from mushu.notify.models import (
    AlertPayload,
    BulkPushRequest,
    Channel,
    CreateApiKeyRequest,
    HTTPValidationError,
    Platform,
    RegisterDeviceRequest,
    SendNotifyRequest,
    SendPushRequest,
)

URL, TENANT = os.environ["SERVER_URL"], os.environ["TENANT"]
PERSON = "Bearer " + os.environ["ACCESS_TOKEN"]
DEVICE_TOKENS = json.loads(os.environ["DEVICE_TOKENS"])
DEAD_ID = os.environ["FOREIGN_TENANT"]


def ok(answer):
    assert answer.status_code == 200, (answer.status_code, answer.content)
    assert answer.parsed is not None and not isinstance(answer.parsed, HTTPValidationError), answer
    return answer.parsed


def refused(answer, status):
    assert answer.status_code == status, (answer.status_code, answer.content)
    if status == 422:
        assert isinstance(answer.parsed, HTTPValidationError), answer
        assert answer.parsed.detail and answer.parsed.detail[0].loc and answer.parsed.detail[0].msg
    else:
        assert answer.parsed is None, answer
        assert isinstance(json.loads(answer.content)["detail"], str), answer.content


def nine_calls(person):
    """The nine notify calls; returns the ids of what was sent, and the key."""
    key = ok(create_notify_api_key.sync_detailed(
        TENANT, client=person, authorization=PERSON, body=CreateApiKeyRequest(name="backend-server")))
    listed = ok(list_notify_api_keys.sync_detailed(TENANT, client=person, authorization=PERSON))
    assert [one.name for one in listed if one.key_id == key.key_id] == ["backend-server"]

    keyed = Client(base_url=URL).with_headers({"X-API-Key": key.key})
    for user, token in zip(("user-1", "user-2"), DEVICE_TOKENS):
        device = ok(register_device.sync_detailed(TENANT, client=keyed, body=RegisterDeviceRequest(
            user_id=user, token=token, platform=Platform.IOS)))
        assert (device.user_id, device.token, device.platform) == (user, token, Platform.IOS)
    devices = ok(list_devices.sync_detailed(TENANT, client=keyed, user_id="user-1")).devices
    assert [device.token for device in devices] == DEVICE_TOKENS[:1]

    alert = AlertPayload(title="Hello", body="from the SDK")
    single = ok(send_push.sync_detailed(TENANT, client=keyed, body=SendPushRequest(user_id="user-1", alert=alert)))
    assert single.success and single.message_id
    bulk = ok(send_bulk_push.sync_detailed(TENANT, client=keyed, body=BulkPushRequest(
        user_ids=["user-1", "user-2"], alert=alert)))
    assert (bulk.total, bulk.success, bulk.failed) == (2, 2, 0)
    assert [one.success for one in bulk.results] == [True, True]
    sent = [single.message_id, bulk.results[0].message_id]
    for channel in (Channel.PUSH, Channel.ALL):
        unified = ok(send_unified_notify.sync_detailed(TENANT, client=keyed, body=SendNotifyRequest(
            user_id="user-2", channel=channel, alert=alert)))
        assert unified["push"]["success"] is True, unified
        sent.append(unified["push"]["message_id"])
    # As releases 0.1.5 and 0.1.6 write it.
    old = SendNotifyRequest(user_id="user-2")
    old.additional_properties = {"push_title": "Old", "push_body": "names", "push_data": {"a": "b"}}
    sent.append(ok(send_unified_notify.sync_detailed(TENANT, client=keyed, body=old))["push"]["message_id"])
    short = asyncio.run(NotifyWrapper(api_key=key.key, app_id=TENANT, base_url=URL).send_push(
        user_id="user-1", title="Short", body="form", data={"c": "d"}))
    assert short.success and short.message_id, short
    sent.append(short.message_id)
    return sent, key, keyed


def refusals(person, keyed):
    nobody = send_push.sync_detailed(TENANT, client=keyed, body=SendPushRequest(
        user_id="nobody", alert=AlertPayload(title="x")))
    assert ok(nobody).success is False and nobody.parsed.error
    refused(send_push.sync_detailed(TENANT, client=keyed, body=SendPushRequest(user_id="")), 422)
    refused(send_bulk_push.sync_detailed(TENANT, client=keyed, body=BulkPushRequest(user_ids=[])), 422)
    refused(send_unified_notify.sync_detailed(TENANT, client=keyed, body=SendNotifyRequest(
        user_id="user-1", channel=Channel.EMAIL, email_subject="x")), 422)
    refused(register_device.sync_detailed(TENANT, client=keyed, body=RegisterDeviceRequest(
        user_id="user-1", token="no device token", platform=Platform.IOS)), 400)
    refused(unregister_device.sync_detailed(TENANT, "ab" * 32, client=keyed, user_id="user-1"), 404)
    refused(list_devices.sync_detailed(DEAD_ID, client=keyed), 403)
    refused(send_push.sync_detailed(TENANT, client=Client(base_url=URL), body=SendPushRequest(user_id="x")), 401)
    refused(send_push.sync_detailed(TENANT, client=person, x_api_key="msk_live_wrong",
                                    body=SendPushRequest(user_id="x")), 401)
    raising = keyed.with_headers({})
    raising.raise_on_unexpected_status = True
    try:
        list_devices.sync_detailed(DEAD_ID, client=raising)
    except errors.UnexpectedStatus as error:
        assert error.status_code == 403
    else:
        raise AssertionError("a refusal did not raise")
    short = asyncio.run(NotifyWrapper(
        api_key=os.environ["API_KEY"], app_id=TENANT, base_url=URL).send_push("nobody", "x", "y"))
    assert not short.success and "404" in short.error, short


def the_rest(person, keyed):
    config = ok(get_notify_config.sync_detailed(TENANT, client=person, authorization=PERSON))
    assert config.app_id == TENANT and config.created_by and config.bundle_id
    configs = ok(list_notify_configs.sync_detailed(client=person, authorization=PERSON, org_id=config.org_id))
    assert TENANT in [one.app_id for one in configs.configs]
    week = ok(get_analytics.sync_detailed(TENANT, client=keyed, days=7))
    assert week.app_id == TENANT and week.email.sent == 0
    series = ok(get_timeseries.sync_detailed(TENANT, client=keyed, days=3))
    assert len(series.daily) == 3 and series.daily[-1].date == series.end_date
    refused(get_analytics.sync_detailed(TENANT, client=keyed, days=0), 422)
    assert health_check_health_get.sync_detailed(client=person).status_code == 200
    assert root_get.sync_detailed(client=person).status_code == 200


def main():
    person = Client(base_url=URL)
    sent, key, keyed = nine_calls(person)
    refusals(person, keyed)
    the_rest(person, keyed)
    ok(unregister_device.sync_detailed(TENANT, DEVICE_TOKENS[0], client=keyed, user_id="user-1"))
    refused(delete_notify_api_key.sync_detailed(TENANT, key.key_id, client=person, authorization="Bearer wrong"), 401)
    ok(delete_notify_api_key.sync_detailed(TENANT, key.key_id, client=person, authorization=PERSON))
    refused(list_devices.sync_detailed(TENANT, client=keyed), 401)
    print(json.dumps(sent))


main()
