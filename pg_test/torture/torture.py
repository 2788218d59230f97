"""The long random test; see run.

    torture.py SEED MINUTES [SETTING …]

The server is the one at PGHOST, which gets the settings whenever it is started again.
"""
from __future__ import annotations

import random
import sys
import time
import traceback

import psycopg

from actors import (Actor, Caller, Claimer, ConfigChanger, DataChanger, Forgetter, MembershipChanger, Refresher, RoleChanger, SetMaker, Steady,
                    SubscriptionChanger, TableChanger, whereabouts)
from audiences import Audiences
from chaos import Chaos, answers, restore
from checks import Wrong, must, rows, wait_for
from hands import HandEditor, Hider, PolicyChanger
from house import Publisher, RowBreaker, SettingsChanger, SourceBreaker, Swapper
from hostile import AsidePause, Clock, Hostile, QuietSteady, VictimChanger, VictimClaimer, arm, check, disarm, set_up, stop_sessions
from invariants import Pause, ServerLog, Watcher, check_memory, nothing_runs, wait_for_ends, wait_for_workers
from lists import ListChanger
from sabotage import prove, prove_hostile
from times import ClockMover, move_sequences
from world import CALLERS, PULLING, World

ROUND = 8.0  # seconds between two pauses, about


class Torture:
    def __init__(self, seed: int, minutes: float, settings: list[str]) -> None:
        self.world = World(seed, minutes, settings)
        self.dice = random.Random(f"{seed} rounds")
        self.log = ServerLog(self.world)
        self.audiences = {of: Audiences(self.world) for of in (*self.world.sets, self.world.aside)}
        self.actors: list[Actor] = []
        self.clocks: list[Clock] = []
        self.loot = 0

    def cast(self) -> None:
        """All who act: in each set of service relations, and beside them."""
        world = self.world
        self.actors += [Hostile(world, number) for number in range(1, 7 if world.is_only_hostile else 3)]
        for of in (world.sets[0], world.aside):
            self.clocks.append(Clock(world, of))
            self.actors += [VictimChanger(world, of, "changes of the victim"), VictimClaimer(world, of, self.audiences[of]), self.clocks[-1]]
        if world.is_only_hostile:
            self.actors += [QuietSteady(world, of) for of in world.sets]
            return
        for of in world.sets:
            audiences = self.audiences[of]
            self.actors += [ConfigChanger(world, of, user) for user in ("anna", "boris")]
            self.actors += [SubscriptionChanger(world, of, user, audiences) for user in ("postgres", "anna")]
            self.actors += [Claimer(world, of, consumer, number, audiences) for consumer in PULLING for number in (1, 2, 3)]
            self.actors += [Refresher(world, of, user) for user in ("postgres", "anna", "boris")]
            self.actors += [Caller(world, of, user) for user in CALLERS]
            self.actors += [Steady(world, of), TableChanger(world, of, "tables"), RowBreaker(world, of, "odd rows"), HandEditor(world, of, "hands"), Hider(world, of, "hidden rows"), ClockMover(world, of, "clocks"), ListChanger(world, of, "lists"), Watcher(world, of, audiences)]
            if world.forgets:
                self.actors.append(Forgetter(world, of, "log"))
        of = world.sets[0]
        self.actors += [DataChanger(world, of, f"data {number}") for number in (1, 2, 3)]
        self.actors += [SettingsChanger(world, of, "settings of roles"), SourceBreaker(world, of, "broken sources"), Swapper(world, of, "swapped sources"), Publisher(world, of, "publications"), PolicyChanger(world, of, "policies")]
        self.actors += [RoleChanger(world, of, "roles"), MembershipChanger(world, of, "memberships"), Chaos(world)]
        if world.has_sets:
            self.actors.append(SetMaker(world, of, "sets"))

    def run(self) -> None:
        world = self.world
        world.set_up(self.dice)
        set_up(world)
        for of in world.sets:
            self.audiences.setdefault(of, Audiences(world))
        # So far only functions that are not there can be missing, and that is said.
        print(f"sets: {', '.join(map(str, world.sets))}" if world.has_sets else
              "# there is no segmenter_init() in this version: one set only, none made and dropped", flush=True)
        if world.is_only_hostile:
            for of in world.sets:
                with world.connect(of=of) as db:
                    db.execute(of("update {segments} set refresh_auto = false where name <> 'victim'"))  # type: ignore[call-overload]
        wait_for_workers(world, True)
        self.cast()
        for actor in self.actors:
            actor.start()
        began, number, restored = time.monotonic(), 0, False
        length = world.minutes * 60
        while not world.ended.is_set():
            number += 1
            passed = time.monotonic() - began
            # On a slow machine a pause may take longer than was meant for all: a dump is restored once all the same.
            is_last = passed > length and restored
            # At first nothing takes the server down, so that its memory can be watched.
            is_late = passed > length * 0.4
            world.is_hard = is_late and not world.is_only_hostile
            if not is_last:
                world.ended.wait(self.round() * (0.5 + self.dice.random()))
            must_restore = is_late and not is_last and (not restored or self.dice.random() < 0.15)
            self.pause(number, must_restore, is_last)
            restored |= must_restore
            if is_last:
                break
        if world.ended.is_set():
            raise Wrong("an actor has failed")

    def round(self) -> float:
        """The hostile role alone is given time. Else there is some where all go on for long: a segment can be late then only."""
        if self.world.is_only_hostile:
            return min(60.0, self.world.minutes * 15)
        return ROUND * (4 if self.world.minutes > 2 and self.dice.random() < 0.2 else 1)

    def pause(self, number: int, must_restore: bool, is_last: bool) -> None:
        world = self.world
        if world.ended.is_set():
            return
        began = time.monotonic()
        world.pausing.set()
        wait_for("the server", lambda: answers(world))
        end = time.monotonic() + 120
        while restless := [actor for actor in self.actors if not actor.is_resting.is_set()]:
            if any(isinstance(actor, Hostile) for actor in restless):
                stop_sessions(world)
            if time.monotonic() > end or world.ended.is_set():
                must(world.ended.is_set(), "actors that do not come to rest", *(f"{actor.name}\n{whereabouts(actor)}" for actor in restless))
                return
            time.sleep(0.05)
        rested = time.monotonic()
        pauses = [*(Pause(world, of, self.audiences[of]) for of in world.sets), AsidePause(world, world.aside, self.audiences[world.aside])]
        wait_for_workers(world, True)
        for pause in pauses:
            pause.find_faults()
        disarm(world)
        for pause in pauses:
            pause.settle(is_last)
            pause.find_none()
            wait_for_ends(world, pause.of)
        wait_for_workers(world, False)
        self.loot += check(pauses[0].db)
        for pause in pauses:
            pause.check()
            if world.forgets and not is_last and number % 2:
                pause.forget()
        nothing_runs(world)
        self.log.check()
        judged = check_memory(world)
        if world.ended.is_set():
            return
        print(f"ok pause {number}: at rest after {rested - began:.1f} s, checked in {time.monotonic() - rested:.1f} s;"
              f" {world.counts['messages acknowledged']} messages acknowledged, {len(world.killed)} processes killed", flush=True)
        if is_last:
            world.ended.set()
            for actor in self.actors:
                actor.join(30)
            print(f"ok memory of {judged} processes was judged" if judged else "# memory was not judged: too few looks at one process", flush=True)
            self.tell()
            # In a minute, on a machine with other work, every moment may have another reason to be late.
            for clock in self.clocks:
                must(clock.counted > 0 or world.minutes < 2, "no time counts for the victim", clock.tell())
            prove_hostile(world, pauses[0], self.log)
            if not world.is_only_hostile:
                prove(world, pauses[0], self.log)
            world.ended.clear()
            return
        if must_restore:
            for pause in pauses:
                pause.db.close()
            restore(world)
            world.memory.clear()
            for pause in pauses:
                pause.db = world.connect(of=pause.of)
            print(f"ok restored, as {world.database}", flush=True)
        for pause in pauses:
            move_sequences(pause.db, pause.of, self.dice)
            pause.resume()
        # Some of those who go on may lose what they have committed.
        with world.connect() as db:
            db.execute("checkpoint")
        world.rests += 1
        world.is_unseen = False
        world.edited.clear()
        arm(world)
        wait_for_workers(world, True)
        world.pausing.clear()

    def tell_of_suspects(self) -> None:
        """What the database says of subscriptions that went wrong."""
        for of in self.world.sets:
            for id in self.world.suspects[:2]:
                with self.world.connect(of=of) as db:
                    for query in ("select u.*, s.name as segment, s.actual_end as segment_end from {subscriptions} u join {segments} s on s.id = u.segment_id where u.id = %s",
                                  "select * from {deliveries} where subscription_id = %s",
                                  "select * from {handovers} where subscription_id = %s",
                                  "select place, message_id, message ->> 'operation' as operation from shop.received where subscription_id = %s order by place desc limit 20",
                                  "select id, created_at, operation, part, parts, members, run_id, payload #> '{members,0}' as first from {outbox} where subscription_id = %s order by id desc limit 30",
                                  "select id, processed, run_id, action, status, added, removed, coverage, message, params from {log} where subscription_id = %s and (action <> 'deliver' or status = 'skipped') order by id desc limit 40",
                                  "select id, processed, run_id, action, status, added, removed, changed, coverage, message, params from {log} where action <> 'deliver' and segment_id = (select segment_id from {subscriptions} where id = %s) and subscription_id is null order by id desc limit 20"):
                        print(f"  of {id}:")
                        for row in rows(db, of(query), id):
                            print("    ", {name: str(value)[:300] for name, value in row.items() if value is not None})

    def tell(self) -> None:
        """What there was of everything; an action that never came about shows."""
        print("# " + ", ".join(f"{what} {count}" for what, count in sorted(self.world.counts.items())), flush=True)
        print(f"# of the hostile role's SQL {self.loot} runs are in its table", *(f"# {clock.tell()}" for clock in self.clocks), sep="\n", flush=True)
        done = {what.split(" → ")[0] for what in self.world.counts}
        never = sorted({f"{type(actor).__name__}.{method.__name__}" for actor in self.actors for method in actor.actions} - done)
        if never:
            print(f"# never: {', '.join(never)}", flush=True)


def main() -> int:
    seed, minutes, settings = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    what = f"seed {seed}, {minutes:g} minutes"
    print(f"# torture: {what}", flush=True)
    torture = Torture(seed, minutes, settings)
    world, began = torture.world, time.monotonic()
    try:
        torture.run()
    except (Wrong, psycopg.Error, OSError) as wrong:
        world.ended.set()
        print(f"not ok torture, {what}: {wrong if isinstance(wrong, Wrong) else ''.join(traceback.format_exception(wrong))}")
        for failure in world.failures[:10]:
            print(f"    {failure}")
        print(f"at {time.strftime('%H:%M:%S')} UTC{time.strftime('%z')}, after {time.monotonic() - began:.0f} s; the last actions:")
        for actor in torture.actors:
            print(f"  {actor.name}")
            for did in actor.recent.copy():
                print(f"    {did}")
        torture.tell()
        try:
            torture.tell_of_suspects()
        except psycopg.Error as error:
            print(f"nothing more is to be had: {error}")
        return 1
    print(f"ok torture, {what}, in {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
