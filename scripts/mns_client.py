#!/usr/bin/env python3
"""Lets the vendor's own packages talk to the simulated Alibaba: a token from QueryTokenForMnsQueue in either signature, then
send, peek, receive, change visibility and delete through the queue (MNS).

    python3 -m venv /tmp/mns && /tmp/mns/bin/pip install \\
        aliyun-mns-sdk==1.3.0 aliyun-python-sdk-dybaseapi==1.0.8 alibabacloud-dybaseapi20170525==1.0.1
    /tmp/mns/bin/python scripts/mns_client.py --bin target/release/callvault

Ends 0 when everything was as the vendor's documents say, 1 when not, 2 when a package is missing.
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import time
import tomllib

try:
    from alibabacloud_dybaseapi20170525 import models
    from alibabacloud_dybaseapi20170525.client import Client as TeaClient
    from alibabacloud_tea_openapi.models import Config
    from aliyunsdkcore.client import AcsClient
    from aliyunsdkcore.acs_exception.exceptions import ServerException
    from aliyunsdkdybaseapi.mns.account import Account as BundledAccount
    from aliyunsdkdybaseapi.request.v20170525.QueryTokenForMnsQueueRequest import QueryTokenForMnsQueueRequest
    from mns.account import Account
    from mns.mns_exception import MNSServerException
    from mns.queue import Message
except ImportError as missing:
    print(f"{missing}; see the first lines of this file", file=sys.stderr)
    sys.exit(2)

KIND = "VoiceRecordReport"
PACKAGES = ["aliyun-mns-sdk", "aliyun-python-sdk-dybaseapi", "alibabacloud-dybaseapi20170525"]
BODY = '{"call_id":"100001616500^100001871490","record_file":"http://rec.example/a.wav?Expires=1&Signature=a%2Bb"}'


def token_by_old_package(address, key_id, secret, queue):
    """HMAC-SHA1 in the query."""
    request = QueryTokenForMnsQueueRequest()
    request.set_protocol_type("http")
    request.set_endpoint(address)
    request.set_accept_format("json")
    request.set_method("POST")
    request.set_MessageType(KIND)
    request.set_QueueName(queue)
    answer = AcsClient(key_id, secret, "cn-hangzhou").do_action_with_exception(request)
    return json.loads(answer)["MessageTokenDTO"]


def token_by_new_package(address, key_id, secret, queue):
    """ACS3-HMAC-SHA256 in headers."""
    config = Config(access_key_id=key_id, access_key_secret=secret, endpoint=address, protocol="http")
    request = models.QueryTokenForMnsQueueRequest(message_type=KIND, queue_name=queue)
    body = TeaClient(config).query_token_for_mns_queue(request).body.to_map()
    assert body["Code"] == "OK", body
    return body["MessageTokenDTO"]


def refused(code, act):
    """The vendor's package raises this code."""
    try:
        act()
    except MNSServerException as error:
        assert error.type == code, f"{error.type} instead of {code}"
        return error
    raise AssertionError(f"{code} was not raised")


def send_to_delete(queue):
    refused("MessageNotExist", lambda: queue.receive_message(0))
    sent = queue.send_message(Message(BODY))
    assert len(sent.message_id) == 32 and sent.message_body_md5.isupper(), sent.message_body_md5
    peeked = queue.peek_message_with_str_body()
    assert peeked.message_body == BODY, peeked.message_body
    assert peeked.message_id == sent.message_id, (peeked.message_id, sent.message_id)
    first = queue.receive_message_with_str_body(2)
    assert first.message_body == BODY and first.dequeue_count == 1, first.dequeue_count
    assert first.message_body_md5 == sent.message_body_md5
    refused("MessageNotExist", lambda: queue.receive_message(0))
    longer = queue.change_message_visibility(first.receipt_handle, 2)
    assert longer.receipt_handle != first.receipt_handle
    refused("MessageNotExist", lambda: queue.delete_message(first.receipt_handle))
    begun = time.monotonic()
    second = queue.receive_message_with_str_body(10)
    assert second.dequeue_count == 2 and 1 < time.monotonic() - begun < 8, "shown again after its two seconds"
    queue.delete_message(second.receipt_handle)
    refused("MessageNotExist", lambda: queue.receive_message(1))
    refused("ReceiptHandleError", lambda: queue.delete_message("no-handle"))


def batches(queue):
    queue.batch_send_message([Message(BODY + str(n)) for n in range(16)])
    peeked = queue.batch_peek_message_with_str_body(16)
    assert len(peeked) == 16
    got = queue.batch_receive_message_with_str_body(16, 5)
    assert sorted(m.message_body for m in got) == sorted(BODY + str(n) for n in range(16))
    handles = [m.receipt_handle for m in got]
    assert any("+" in h for h in handles) and any("/" in h for h in handles) and all("=" in h for h in handles)
    queue.delete_message(handles[0])
    error = refused("MessageNotExist", lambda: queue.batch_delete_message(handles))
    assert [e["ReceiptHandle"] for e in error.sub_errors] == handles[:1], error.sub_errors
    refused("MessageNotExist", lambda: queue.receive_message(0))
    attributes = queue.get_attributes()
    assert attributes.queue_name.endswith(KIND) and attributes.visibility_timeout == 30


def plain(queue):
    """With the package's base64 switched off: the text as it is, its escapes resolved."""
    queue.set_encoding(False)
    queue.send_message(Message(BODY))
    got = queue.receive_message_with_str_body(5)
    assert got.message_body == BODY, got.message_body
    queue.delete_message(got.receipt_handle)
    queue.set_encoding(True)


def refusals(address, token, name):
    def account(key, secret, security):
        return Account(f"http://{address}", key, secret, security)

    key, secret, security = token["AccessKeyId"], token["AccessKeySecret"], token["SecurityToken"]
    refused("SignatureDoesNotMatch", lambda: account(key, secret + "x", security).get_queue(name).receive_message(0))
    refused("InvalidAccessKeyId", lambda: account(key + "x", secret, security).get_queue(name).receive_message(0))
    refused("AccessDenied", lambda: account(key, secret, security + "x").get_queue(name).receive_message(0))
    other = name.replace(KIND, "ArtcCdrReport")
    refused("AccessDenied", lambda: account(key, secret, security).get_queue(other).receive_message(0))
    refused("QueueNotExist", lambda: account(key, secret, security).get_queue("nowhere").receive_message(0))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.environ.get("CALLVAULT_BIN", "target/release/callvault"))
    args = parser.parse_args()
    vendor = subprocess.Popen(
        [args.bin, "--json", "simulate", "aliyun", "--queue", "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        started = json.loads(vendor.stdout.readline())
        source = tomllib.loads(started["config"])["sources"][started["source"]]
        address, name = started["address"], source["queues"][KIND]
        key_id, secret = source["access_key_id"], source["access_key_secret"]
        try:
            token_by_old_package(address, key_id, secret + "x", name)
            raise AssertionError("a wrong secret got a token")
        except ServerException as error:
            # SignatureDoesNotMatch names the text that was signed; the package found it equal to its own, so that only
            # the secret can be wrong.
            assert error.get_error_code() == "InvalidAccessKeySecret", error.get_error_code()
        for how, take in [("HMAC-SHA1", token_by_old_package), ("ACS3-HMAC-SHA256", token_by_new_package)]:
            token = take(address, key_id, secret, name)
            credentials = (token["AccessKeyId"], token["AccessKeySecret"], token["SecurityToken"])
            queue = Account(f"http://{address}", *credentials).get_queue(name)
            send_to_delete(queue)
            batches(queue)
            plain(queue)
            refusals(address, token, name)
            # The client inside of the token package writes scheme and host into its request line.
            bundled = BundledAccount(f"http://{address}", credentials[0], credentials[1], credentials[2]).get_queue(name)
            queue.send_message(Message(BODY))
            got = bundled.batch_receive_message(16, 5)
            assert len(got) == 1
            bundled.batch_delete_message([m.receipt_handle for m in got])
            print(f"token by {how}: send, peek, receive, visibility, delete, batches and refusals are the vendor's")
    finally:
        vendor.terminate()
        vendor.wait(timeout=10)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    print(f"tried with {versions}")


if __name__ == "__main__":
    main()
