"""A publisher, an audience, and the relay between them, over an in-memory network in virtual time."""

from __future__ import annotations

import gc
import weakref

import pytest
import trio
from trio.testing import MockClock, assert_no_checkpoints

from lac_media.engine import EngineConfig, open_engine
from lac_media.errors import (
    EngineStartError,
    LocalProtocolError,
    SessionClosedError,
    UnsupportedMediaError,
)
from lac_media.parameters import (
    ConsumerParameters,
    Direction,
    DtlsParameters,
    DtlsRole,
    Fingerprint,
    ProducerParameters,
)
from lac_media.proto.ice import CONSENT_TIMEOUT_S
from lac_media.proto.opus import SILENCE_20MS_MONO
from lac_media.rooms.events import RoomEvent, SessionClosed, SessionConnected, SpeakerStarted, SpeakerStopped
from lac_media.rooms.fanout import SLICE
from lac_media.rooms.room import SPEAKER_STOPPED_S
from lac_media.rooms.session import Session
from tests.fakes.impairment import Impairment
from tests.fakes.link import identity
from tests.fakes.net import Net
from tests.media.clients import FRAME_S, Client, Studio, open_net_engine, open_studio, opus

SEND, RECV = Direction.SEND, Direction.RECV


def assert_program(client: Client) -> None:
    """What a listener has: one unbroken line, every packet once, none that could not be decrypted."""
    sequences = [packet.sequence for packet in client.packets]
    assert sequences == [(sequences[0] + n) & 0xFFFF for n in range(len(sequences))]
    assert len({packet.ssrc for packet in client.packets}) == 1
    assert client.peer.core is not None
    assert client.peer.core.counters.bad_rtp == 0
    assert client.peer.core.counters.unknown_ssrc == 0


def room_events(studio: Studio, kind: type[object]) -> list[object]:
    return [event for event in studio.events if isinstance(event, kind)]


async def test_everyone_of_an_audience_over_several_slices_hears_everything_once(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        host = await studio.publisher("host")
        audience = [await studio.listener() for _ in range(2 * SLICE + 50)]
        for client in audience:
            client.events.clear()
        await host.talk(1, 20)
        await trio.sleep(0.1)
        expected = [opus(number) for number in range(1, 21)]
        for client in audience:
            assert client.speech == expected
            assert_program(client)
        assert studio.room.fanout.listeners == len(audience)
        assert studio.room.fanout.dropped == 0


async def test_people_come_and_go_and_each_gets_only_what_is_theirs(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        host = await studio.publisher("host")
        staying, leaving = [], []
        for number in range(SLICE + 20):
            client = await studio.listener()
            (leaving if number % 3 == 0 else staying).append(client)
        for client in (*staying, *leaving):
            client.events.clear()
        number = 0
        while leaving:
            host.say(number)
            number += 1
            await trio.sleep(FRAME_S)
            client = leaving.pop(len(leaving) // 2)
            if number % 2:
                client.peer.close()
            else:
                client.session.close("removed")
            if number % 4 == 0:
                staying.append(await studio.listener())
        newcomers = [await studio.listener() for _ in range(30)]
        await host.talk(number, 10)
        await trio.sleep(0.1)
        everything = [opus(n) for n in range(number + 10)]
        for client in staying:
            assert client.speech == everything[-len(client.speech) :]
            assert_program(client)
        for client in newcomers:
            assert client.speech == everything[-len(client.speech) :]
            assert_program(client)
        assert studio.room.fanout.listeners == len(staying) + len(newcomers)


async def test_listeners_with_other_parameters_get_their_own_payload_type(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        host = await studio.publisher("host")
        browser = await studio.listener()
        other = await studio.listener(consumer=ConsumerParameters(payload_type=100, audio_level_extension_id=None))
        await trio.sleep(0.1)
        await host.talk(1, 5)
        await trio.sleep(0.1)
        assert browser.speech == other.speech == [opus(n) for n in range(1, 6)]
        assert not any(packet.extensions for packet in other.packets)
        silence = [packet for packet in browser.packets if packet.payload == SILENCE_20MS_MONO]
        assert {packet.extensions[10] for packet in silence} == {b"\x7f"}
        other.session.close("left")
        assert len(studio.room.fanout._groups) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"payload_type": 128}, {"payload_type": -1}, {"audio_level_extension_id": 15}, {"audio_level_extension_id": 0}],
)
def test_parameters_that_no_header_can_carry_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UnsupportedMediaError):
        ConsumerParameters(**wrong)


@pytest.mark.parametrize("role", [DtlsRole.CLIENT, DtlsRole.SERVER])
async def test_events_tell_the_story_of_a_publisher(autojump_clock: MockClock, role: DtlsRole) -> None:
    async with open_studio() as studio:
        host = await studio.publisher("host", role=role)
        await host.talk(1, 5)
        session, producer = host.session.id, host.session.producer_id
        host.peer.close()
        await trio.sleep(0.1)
        assert studio.events == [
            SessionConnected(session, SEND, "host"),
            SpeakerStarted(session, producer, "host"),
            SpeakerStopped(session, producer, "host"),
            SessionClosed(session, SEND, "host", "hung_up", True),
        ]


async def test_a_silent_publisher_stops_and_starts_again(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        host = await studio.publisher("host")
        await host.talk(1, 5)
        assert studio.room.producers() == [(host.session.producer_id, "host")]
        await trio.sleep(SPEAKER_STOPPED_S + 2.1)
        assert studio.room.producers() == []
        await host.talk(6, 5)
        kinds = [type(event) for event in studio.events]
        assert kinds == [SessionConnected, SpeakerStarted, SpeakerStopped, SpeakerStarted]


async def test_mute_silences_at_once_and_in_later_sessions_and_lets_others_speak(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        listener = await studio.listener()
        host, guest = await studio.publisher("host"), await studio.publisher("guest")
        await host.talk(1, 5)
        studio.room.mute("host")
        listener.events.clear()
        await host.talk(6, 10)
        assert listener.speech == []
        assert len(listener.packets) in (9, 10, 11), "silence from the first moment on"
        assert_program(listener)

        host.peer.close()
        again = await studio.publisher("host")
        await guest.talk(1001, 3)
        again.say(16)  # muted: does not take the program away
        await guest.talk(1004, 3)
        await trio.sleep(0.1)
        assert listener.speech == [opus(n) for n in range(1001, 1007)]

        await trio.sleep(1.0)  # the guest has said what there was to say
        studio.room.unmute("host")
        await again.talk(17, 3)
        await trio.sleep(0.1)
        assert listener.speech[-3:] == [opus(17), opus(18), opus(19)]
        assert_program(listener)


async def test_the_host_is_replaced_without_a_break(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        listener = await studio.listener()
        host = await studio.publisher("host")
        await host.talk(1, 10)
        again = await studio.publisher("host")
        await again.talk(11, 10)
        host.session.close("replaced")
        await again.talk(21, 10)
        await trio.sleep(0.1)
        assert listener.speech == [opus(n) for n in range(1, 31)]
        assert_program(listener)
        assert host.close_reason == "hung_up"


async def test_a_speaker_who_is_closed_when_it_starts_leaves_the_program_to_others(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        listener = await studio.listener()
        guest = await studio.publisher("guest")
        await guest.talk(1, 2)
        intruder = await studio.publisher("intruder")

        def refuse(event: RoomEvent) -> None:
            if isinstance(event, SpeakerStarted) and event.owner == "intruder":
                intruder.session.close("removed")

        studio.room._on_event = refuse
        intruder.say(666)
        await trio.sleep(0.1)
        await guest.talk(3, 3)
        await trio.sleep(0.1)
        assert listener.speech == [opus(n) for n in range(1, 6)]
        assert_program(listener)


async def test_a_listener_who_is_closed_when_it_connects_gets_no_seat(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        tell = studio.room._on_event

        def refuse(event: RoomEvent) -> None:
            tell(event)
            if isinstance(event, SessionConnected):
                studio.room.sessions[event.session_id].close("removed")

        studio.room._on_event = refuse
        client = await studio.add(RECV, "unwanted", wait=False)
        await client.closed.wait()
        assert studio.room.fanout.listeners == 0
        assert client.session.closed


async def test_a_closed_owner_is_gone_with_all_sessions(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        clients = [await studio.listener("troll"), await studio.publisher("troll"), await studio.listener("other")]
        studio.room.close_owner("troll", "removed")
        await trio.sleep(0.1)
        assert [client.close_reason for client in clients] == ["hung_up", "hung_up", None]
        reasons = [(event.owner, event.reason) for event in room_events(studio, SessionClosed)]
        assert reasons == [("troll", "removed"), ("troll", "removed")]


async def test_a_full_kernel_buffer_drops_and_counts(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        host, listener = await studio.publisher("host"), await studio.listener()
        await host.talk(1, 2)
        await trio.sleep(0.005)
        before = studio.room.stats().dropped_out
        studio.engine.endpoint.socket.full = True  # type: ignore[attr-defined]  # a NetSocket
        await host.talk(3, 5)
        studio.engine.endpoint.socket.full = False  # type: ignore[attr-defined]  # a NetSocket
        await host.talk(8, 2)
        await trio.sleep(0.1)
        assert studio.room.stats().dropped_out - before >= 5
        assert listener.speech == [opus(n) for n in (1, 2, 8, 9)]


async def test_a_moved_listener_is_served_at_its_new_address(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        host, listener, other = await studio.publisher("host"), await studio.listener(), await studio.listener()
        await host.talk(1, 2)
        listener.peer.socket.close()
        listener.peer.socket = studio.net.open_socket("203.0.113.5", 7777)
        core = listener.peer.core
        assert core is not None
        core.ice.check_now(now=trio.current_time())  # type: ignore[union-attr]  # a client's is IceControlling
        core.handle_timer(now=trio.current_time())
        listener.peer._flush(core)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_pump, listener)
            await trio.sleep(FRAME_S)
            await host.talk(3, 3)
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel("done")
        assert listener.speech[-3:] == other.speech[-3:] == [opus(3), opus(4), opus(5)]
        assert studio.engine.endpoint.peer_count == 2 * 3
        listener.peer.socket.close()


async def _pump(client: Client) -> None:
    core = client.peer.core
    assert core is not None
    while True:
        await client.peer.socket.wait_readable()
        data, address = client.peer.socket.receive_nowait()
        core.receive_datagram(data, address, now=trio.current_time())
        client.peer._flush(core)


async def test_a_listener_that_vanishes_is_lost_and_the_rest_stay(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        listener, other = await studio.listener("gone"), await studio.listener("here")
        listener.peer.socket.cut_off = True  # type: ignore[attr-defined]  # a NetSocket
        await trio.sleep(CONSENT_TIMEOUT_S + 1)
        [closed] = room_events(studio, SessionClosed)
        assert (closed.owner, closed.reason) == ("gone", "lost")
        assert not other.session.closed
        assert studio.room.fanout.listeners == 1


async def test_ice_restart_over_the_endpoint(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        listener = await studio.listener()
        endpoint = studio.engine.endpoint
        before = endpoint.peer_count
        for _ in range(20):
            fresh = listener.session.restart_ice()
            assert listener.session.ice_parameters == fresh
        assert endpoint.peer_count == before + 1, "restarts leave no ufrags behind"
        core = listener.peer.core
        assert core is not None
        core.ice._remote = fresh  # type: ignore[union-attr]  # as a browser takes a new remote description
        await trio.sleep(60)
        assert not listener.session.closed
        assert core.counters.bad_stun == 0


async def test_stats_are_of_use(autojump_clock: MockClock) -> None:
    async with open_studio(Net(Impairment(delay_s=0.03))) as studio:
        host, listener = await studio.publisher("host"), await studio.listener()
        await host.talk(1, 400)
        stats = studio.room.stats()
        assert (stats.listeners, stats.packets_in, stats.packets_lost_in) == (1, 399, 0), "the last one is on its way"
        assert stats.worst_loss == 0.0
        assert stats.weak_listeners == 0
        assert stats.round_trip_s == pytest.approx(0.06, abs=0.005)
        assert studio.room.media_time_s() == pytest.approx(trio.current_time(), abs=0.2)
        own = listener.session.stats()
        assert (own.state, own.srtp_profile, own.bad_packets) == ("connected", "AEAD_AES_128_GCM", 0)


# What may not be asked


async def test_misuse_of_a_session_is_refused_and_changes_nothing(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        session = await studio.room.open_session(RECV, "me")
        with pytest.raises(LocalProtocolError):
            session.produce(ProducerParameters(111))
        session.consume(ConsumerParameters())
        with pytest.raises(LocalProtocolError):
            session.consume(ConsumerParameters())
        with pytest.raises(UnsupportedMediaError):
            session.connect(DtlsParameters(DtlsRole.CLIENT, (Fingerprint("md5", "00"),)))
        session.connect(DtlsParameters(DtlsRole.CLIENT, (identity(1).fingerprint,)))
        with pytest.raises(LocalProtocolError):
            session.connect(DtlsParameters(DtlsRole.CLIENT, (identity(1).fingerprint,)))
        publisher = await studio.room.open_session(SEND, "me")
        with pytest.raises(LocalProtocolError):
            publisher.consume(ConsumerParameters())
        publisher.produce(ProducerParameters(111))
        with pytest.raises(LocalProtocolError):
            publisher.produce(ProducerParameters(111))
        assert not session.closed
        session.close("left")
        session.close("again")
        for call in (
            lambda: session.connect(DtlsParameters(DtlsRole.CLIENT, (identity(1).fingerprint,))),
            lambda: session.consume(ConsumerParameters()),
            session.restart_ice,
        ):
            with pytest.raises(SessionClosedError):
                call()
        assert studio.engine.session(session.id) is None
        assert studio.engine.session(publisher.id) is publisher


async def test_a_session_that_nobody_connects_to_times_out(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        session = await studio.room.open_session(RECV, "shy")
        await trio.sleep(30.001)
        assert studio.events == [SessionClosed(session.id, RECV, "shy", "timeout", False)]


async def test_hot_calls_do_not_checkpoint(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        host = await studio.publisher("host")
        await studio.listener()
        packet = host.next_packet(opus(1))
        with assert_no_checkpoints():
            studio.room.receive_audio(host.session, packet, 30)
            studio.engine.endpoint.receive(b"\x80" + bytes(50), ("198.51.0.1", 5000), now=trio.current_time())
            studio.room.mute("host")
            studio.room.unmute("host")
            host.session.close("left")


# Ending


async def test_leaving_the_room_says_goodbye_to_everyone_and_leaves_nothing(autojump_clock: MockClock) -> None:
    net = Net()
    events: list[RoomEvent] = []
    async with trio.open_nursery() as nursery, open_net_engine(net) as engine:
        async with engine.open_room("room", events.append) as room:
            studio = Studio(net, engine, room, nursery, [])
            clients = [await studio.publisher("host"), *[await studio.listener() for _ in range(5)]]
        assert (engine.session_count, engine.endpoint.peer_count) == (0, 0)
        for client in clients:
            await client.closed.wait()
            assert client.close_reason == "hung_up"
        assert [event.reason for event in events if isinstance(event, SessionClosed)] == ["ended"] * 6
        with pytest.raises(SessionClosedError):
            await room.open_session(RECV, "late")
        assert engine.session("x") is None
    assert net.sockets == {}


async def test_a_dead_session_is_freed_at_once_without_the_garbage_collector(autojump_clock: MockClock) -> None:
    """Nothing may keep its keys: no cycle, no timer, no slot of the fan-out, no seat, no event."""
    async with open_studio() as studio:
        kept = [await studio.listener() for _ in range(3)]
        host = await studio.publisher("host")
        await host.talk(1, 3)
        await trio.sleep(0.1)
        watched: list[weakref.ref[object]] = []

        def watch(session: Session) -> None:
            watched.extend((weakref.ref(session), weakref.ref(session._core)))

        gc.collect()
        gc.disable()
        try:
            listeners = [await studio.listener() for _ in range(5)]
            for client in (*listeners, host):
                watch(client.session)
                client.session.close("left")
            await trio.sleep(0.1)
            for client in (*listeners, host):
                client.session = kept[0].session
            del client
            await trio.sleep(0.1)
            assert [ref() for ref in watched] == [None] * 12
        finally:
            gc.enable()


# Starting


async def test_starting_on_a_port_in_use_says_so_in_one_line() -> None:
    async with open_engine(EngineConfig(), identity=identity(0)) as engine:
        with pytest.raises(EngineStartError, match=rf"port {engine.port} .*in use") as caught:
            async with open_engine(EngineConfig(port=engine.port), identity=identity(0)):
                pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (EngineConfig(listen_ip="localhost"), "not an IP address"),
        (EngineConfig(listen_ip="203.0.113.99"), "cannot listen for media on 203.0.113.99"),
        (EngineConfig(listen_ip="0.0.0.0"), "MEDIASOUP_ANNOUNCED_IP"),  # noqa: S104  # what this test is about
        (EngineConfig(announced_ips=("example.org",)), "'example.org' cannot be announced"),
        (EngineConfig(announced_ips=("::",)), "MEDIASOUP_ANNOUNCED_IP"),
    ],
)
async def test_starting_on_an_impossible_address_says_why(config: EngineConfig, words: str) -> None:
    with pytest.raises(EngineStartError, match=words) as caught:
        async with open_engine(config, identity=identity(0)):
            pass
    assert "\n" not in str(caught.value)


async def test_every_announced_address_is_a_candidate_in_the_order_of_preference() -> None:
    config = EngineConfig(announced_ips=("203.0.113.1", "2001:db8::1"))
    async with open_engine(config, identity=identity(0)) as engine:
        first, second = engine.candidates
        assert (first.ip, second.ip) == ("203.0.113.1", "2001:db8::1")
        assert first.port == second.port == engine.port
        assert first.priority > second.priority
        assert first.foundation != second.foundation
