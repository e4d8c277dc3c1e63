"""Prompts by a language model: diverse captions or descriptive words, each checked by rules and by a second question.

For each class the model is asked for as many texts as are wanted. Those that pass the rules (`foley.prompts.accept`)
are put before the model again, as data, with the question whether each is a sound of the class in the sense that is
meant. What is then lacking is asked for anew, with what is there to differ from, a few rounds at most. A class that
still has nothing is named alone, and the table says so.

Every question follows from options, class and earlier answers, and every answer is kept (`foley.prompts.cache`): so a
rerun asks nothing, and one after a crash asks only what was not answered.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from foley.options import ConfigError
from foley.prompts.accept import Rules, accept, refuse
from foley.prompts.answers import AnswerForm, Captions, Verdict, Verdicts, Words, read_answer
from foley.prompts.ask import Ask, Asker, Limits, NotAnswered, Stopped, readable
from foley.prompts.budget import BudgetSpent
from foley.prompts.cache import AnswerCache, Stored
from foley.prompts.clients.gemini_wire import check_base_url
from foley.prompts.clients.protocol import Client, ClientError, ClientSettings, Request
from foley.prompts.listed import stand_in
from foley.prompts.protocol import (
    ClassBrief,
    Exchange,
    Progress,
    Prompt,
    Setting,
    Written,
    check_template,
    fill,
)
from foley.prompts.registry import CLIENTS
from foley.prompts.words import prompts_of_words
from foley.runtime.code import load
from foley.runtime.seeds import derive

log = logging.getLogger(__name__)

WRITE, CRITIC = "write", "critic"
# How often a second opinion is asked for when it comes back unreadable.
_CRITIC_TRIES = 2
# Of an answer, as the table keeps it; the cache has the whole.
ANSWER_CHARS = 20_000


@dataclass(frozen=True)
class _Accepted:
    text: str
    request_hash: str
    verdict: str | None


class LLMPrompts:
    """Captions or words by a language model."""

    @dataclass(frozen=True)
    class Options:
        """
        client: gemini (google-genai), gemini_legacy (google-generativeai) or local (transformers).
        model: name at the service; for `local` a folder or a hub id with `revision`.
        base_url: another address of the service, such as a proxy.
        form: whole captions, each a prompt, or words, a few of them drawn for each prompt.
        count: captions or words a class.
        per_prompt, prompts, template: for words, as in the kind `words`.
        seed: of the model's sampling, as far as it honours one, and of the draws.
        hints: tell the model the synonyms of the class table.
        critic: have every text judged by a second question; critic_model answers it, the same model when left out.
        rounds: how often texts are asked for until there are enough.
        similarity: from where on a text repeats one before it (`foley.prompts.similarity`).
        thinking_tokens: how long the model may think before an answer; null = as the model has it.
        missing: what to do with a class without any text: fail, or name the class alone.
        limits: what it may cost and how patient it is; changes no prompt.
        """

        client: Literal["gemini", "gemini_legacy", "local"] = "gemini"
        model: str = "gemini-2.5-flash"
        revision: str | None = None
        base_url: str | None = None
        form: Literal["captions", "words"] = "captions"
        count: int = 10
        per_prompt: int = 3
        prompts: int = 30
        template: str | None = None
        seed: int = 0
        hints: bool = True
        critic: bool = True
        critic_model: str | None = None
        rounds: int = 3
        similarity: float = 0.7
        temperature: float = 1.0
        top_p: float = 0.95
        max_output_tokens: int = 8_192
        thinking_tokens: int | None = None
        missing: Literal["fail", "label"] = "label"
        limits: Limits = field(default_factory=Limits)

        def __post_init__(self) -> None:
            if self.template is not None:
                check_template(self.template, ("label", "words"), "options")
            check_base_url(self.base_url)
            if min(self.count, self.per_prompt, self.prompts, self.rounds, self.max_output_tokens) < 1:
                raise ValueError(
                    "count, per_prompt, prompts, rounds and max_output_tokens must be at least 1"
                )
            if self.temperature < 0 or not 0 < self.top_p <= 1:
                raise ValueError("temperature must not be negative, and top_p in (0, 1]")
            if self.thinking_tokens is not None and self.client != "gemini":
                raise ValueError("thinking_tokens is for the client `gemini`")
            if self.client == "local" and (self.base_url or self.critic_model):
                raise ValueError("the client `local` has one model and no address")

    def __init__(self, options: Options, setting: Setting) -> None:
        self.options, self.setting = options, setting
        self.template = options.template or setting.templates.words
        settings = ClientSettings(options.model, options.base_url, options.revision, options.limits.timeout_s)
        client: type[Client] = load(CLIENTS[options.client])
        folder = Path(options.model).expanduser()
        # A folder's place says nothing about what answers: its files do (`LocalClient.identity`).
        self.model = folder.name if options.client == "local" and folder.is_dir() else options.model
        self.answers = AnswerCache(setting.cache / "llm")
        try:
            identity = client.identity(settings)
        except OSError as error:
            raise ConfigError(f"config: `{setting.where}.model`: {error}") from None
        self.asker = Asker(self.answers, identity, options.limits, lambda: client(settings))

    def write(self, briefs: Sequence[ClassBrief], progress: Progress = iter) -> Written:
        """Prompts for every class.

        Raises:
            ValueError: no answer can be had, or the budget is spent. What was answered is kept.
        """
        done: dict[int, Written] = {}
        # First what earlier runs left: it costs nothing, and it belongs to what the budget counts.
        for brief in briefs:
            try:
                done[brief.class_id] = self._write_class(brief, self.asker.recall)
            except NotAnswered:
                continue
        recalled = len(done)
        self._write_rest(
            [brief for brief in briefs if brief.class_id not in done], done, len(briefs), progress
        )
        budget = self.asker.budget
        log.info(
            "%d classes, %d of them from %s; %d requests sent now; the set took %d requests and %d tokens in all",
            len(done), recalled, self.answers.folder, self.asker.sent, budget.requests, budget.tokens,
        )  # fmt: skip
        written = Written()
        for brief in briefs:
            written.add(done[brief.class_id])
        return written

    def _write_rest(
        self, briefs: Sequence[ClassBrief], done: dict[int, Written], classes: int, progress: Progress
    ) -> None:
        """Ask for what is lacking, several classes at once; the first failure stops all."""
        if not briefs:
            return
        with ThreadPoolExecutor(self.options.limits.concurrency) as pool:
            running: dict[Future[Written], ClassBrief] = {
                pool.submit(self._write_class, brief, self.asker.ask): brief for brief in briefs
            }
            problem: tuple[ClassBrief, Exception] | None = None
            for future in progress(as_completed(running)):
                try:
                    done[running[future].class_id] = future.result()
                except Stopped:
                    continue
                except (ClientError, BudgetSpent, OSError) as failed:
                    self.asker.stop()
                    problem = problem or (running[future], failed)
                except BaseException:
                    self.asker.stop()
                    raise
        if problem is None:
            return
        brief, error = problem
        kept = (
            f"{len(done)} of {classes} classes are written, and every answer is kept in {self.answers.folder}"
        )
        if isinstance(error, BudgetSpent):
            remedy = (
                f"raise it in `{self.setting.where}.limits` and start again: it goes on where it stopped, and what is "
                "answered is not paid for again"
            )
            raise BudgetSpent(
                f"class `{brief.label}`: the budget is spent: {error}. {kept}; {remedy}"
            ) from None
        if isinstance(error, OSError):
            raise error
        raise ClientError(f"class `{brief.label}`: {error}. {kept}: nothing is paid for twice") from None

    def _write_class(self, brief: ClassBrief, ask: Ask) -> Written:
        written = Written()
        accepted: list[_Accepted] = []
        for number in range(self.options.rounds):
            lacking = self.options.count - len(accepted)
            if lacking <= 0:
                break
            texts, key = self._ask_for_texts(brief, number, lacking, accepted, ask, written)
            passed, refused = accept(
                texts[:lacking],
                brief,
                Rules(self.options.form, similarity=self.options.similarity),
                "llm",
                before=[one.text for one in accepted],
                request_hash=key,
            )
            written.rejected += refused
            surplus = texts[lacking:]
            shown = surplus[:lacking]  # a few will do: an answer may hold thousands
            for place, text in enumerate(shown, start=1):
                more = len(surplus) - len(shown) if place == len(shown) else 0
                detail = f"{lacking} were asked for" + (f"; and {more:,} more, not listed" if more else "")
                written.rejected.append(refuse(brief, text, "surplus", detail, "llm", key))
            accepted += self._judge(brief, number, passed, key, ask, written)
        written.prompts = self._prompts(brief, accepted)
        return written

    def _ask_for_texts(
        self,
        brief: ClassBrief,
        number: int,
        lacking: int,
        accepted: Sequence[_Accepted],
        ask: Ask,
        written: Written,
    ) -> tuple[list[str], str]:
        form: type[AnswerForm] = Captions if self.options.form == "captions" else Words
        before = json.dumps([one.text for one in accepted], ensure_ascii=False)
        request = self._request(
            self.setting.instructions["system"],
            fill(
                self.setting.instructions[self.options.form],
                count=str(lacking),
                avoid=before if accepted else "none so far",
                **self._about(brief),
            ),
            form,
            derive(self.options.seed, WRITE, brief.label, number),
        )
        key, stored = ask(request)
        status, reason, content = read_answer(stored.answer, form)
        written.exchanges.append(_exchange(brief, number, WRITE, key, request, stored, status, reason))
        if isinstance(content, Captions):
            return content.captions, key
        return (content.words, key) if isinstance(content, Words) else ([], key)

    def _judge(
        self, brief: ClassBrief, number: int, texts: list[str], key: str, ask: Ask, written: Written
    ) -> list[_Accepted]:
        """The texts that the second question confirms; the others go to the rejected ones."""
        if not self.options.critic:
            return [_Accepted(text, key, None) for text in texts]
        if not texts:
            return []
        verdicts: Mapping[int, Verdict] = {}
        for attempt in range(_CRITIC_TRIES):
            request = self._request(
                self.setting.instructions["critic_system"],
                fill(
                    self.setting.instructions["critic"],
                    texts=json.dumps(
                        [{"number": place, "text": text} for place, text in enumerate(texts, start=1)],
                        ensure_ascii=False,
                    ),
                    **self._about(brief),
                ),
                Verdicts,
                derive(self.options.seed, CRITIC, brief.label, number, attempt),
                judging=True,
            )
            judged, stored = ask(request)
            status, reason, content = read_answer(stored.answer, Verdicts)
            purpose = CRITIC if not attempt else f"{CRITIC}, again"
            written.exchanges.append(
                _exchange(brief, number, purpose, judged, request, stored, status, reason)
            )
            if content is not None:
                verdicts = {verdict.number: verdict for verdict in content.verdicts}
                break
        confirmed = []
        for place, text in enumerate(texts, start=1):
            verdict = verdicts.get(place)
            if verdict is None:
                written.rejected.append(
                    refuse(brief, text, "not_judged", "the answer holds no verdict on it", "llm", judged)
                )
            elif verdict.describes_sound and verdict.right_sense:
                confirmed.append(_Accepted(text, key, verdict.reason[:300]))
            else:
                what = "another sense" if verdict.describes_sound else "no sound"
                written.rejected.append(
                    refuse(brief, text, "critic", f"{what}: {verdict.reason}", "llm", judged)
                )
        return confirmed

    def _about(self, brief: ClassBrief) -> dict[str, str]:
        """What the questions say of a class. Names come from data, so they stand as JSON strings."""
        hints = brief.synonyms if self.options.hints else ()
        senses = [sense for sense, _ in brief.banned_senses]
        return {
            "label": json.dumps(brief.spoken, ensure_ascii=False),
            "context": self.setting.templates.context,
            "hints": json.dumps(list(hints), ensure_ascii=False) if hints else "none",
            "senses": json.dumps(senses, ensure_ascii=False) if senses else "none",
        }

    def _request(
        self, system: str, text: str, form: type[AnswerForm], seed: int, judging: bool = False
    ) -> Request:
        given = self.options
        return Request(
            model=(given.critic_model or self.model) if judging else self.model,
            system=system,
            text=text,
            schema=form.schema_sent(),
            # A verdict is no matter of chance.
            temperature=0.0 if judging else given.temperature,
            top_p=1.0 if judging else given.top_p,
            max_output_tokens=given.max_output_tokens,
            seed=seed & 0x7FFFFFFF,
            thinking_tokens=given.thinking_tokens,
        )

    def _prompts(self, brief: ClassBrief, accepted: Sequence[_Accepted]) -> list[Prompt]:
        given = self.options
        if not accepted:
            why = f"the model gave nothing usable in {given.rounds} rounds"
            return [stand_in(brief, self.setting.templates.label, given.missing, why)]
        if len(accepted) < given.count:
            log.warning(
                "class `%s`: %d of %d %s are usable", brief.label, len(accepted), given.count, given.form
            )
        if given.form == "captions":
            return [
                Prompt(
                    brief.class_id, brief.label, position, "llm", one.text,
                    model=self.model, request_hash=one.request_hash, verdict=one.verdict,
                )
                for position, one in enumerate(accepted)
            ]  # fmt: skip
        of = {one.text: one for one in accepted}
        return [
            replace(
                prompt,
                strategy="llm",
                model=self.model,
                request_hash=of[prompt.words[0]].request_hash,
                verdict="; ".join(f"{word}: {of[word].verdict}" for word in prompt.words)
                if given.critic
                else None,
            )
            for prompt in prompts_of_words(
                brief, list(of), self.template, given.per_prompt, given.prompts, given.seed
            )
        ]


def _exchange(
    brief: ClassBrief,
    number: int,
    purpose: str,
    key: str,
    request: Request,
    stored: Stored,
    status: str,
    reason: str | None,
) -> Exchange:
    answer = stored.answer
    return Exchange(
        class_id=brief.class_id,
        label=brief.label,
        round=number,
        purpose=purpose,
        request_hash=key,
        model=request.model,
        answered_by=answer.model,
        request=readable(request),
        answer=answer.raw[:ANSWER_CHARS],
        status=status,
        reason=reason,
        input_tokens=answer.input_tokens,
        output_tokens=answer.output_tokens,
        attempts=stored.attempts,
        seconds=stored.seconds,
        lost_tokens=stored.lost_tokens,
    )
