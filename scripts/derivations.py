#!/usr/bin/env python3
"""What a delta costs for what people do most with text: wrap it, nest it, take it out again.

    derivations.py --sparse BINARY --table TABLE.parquet [--rows 1500] [NAME ...]

TABLE has two columns of text, `question` and `answer` (GSM8K, for one). Each derivation is made of its first rows,
compressed, restored and compared with pyarrow; beside it the best single patch, `zstd -19 --long=27 --patch-from` of
the Arrow streams. Needs pyarrow and zstandard.
"""
import argparse, json, pathlib, random, subprocess, sys, tempfile, time

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import zstandard

ROLE = {"human": "user", "gpt": "assistant"}
ALPACA = "Below is an instruction that describes a task{}. Write a response that completes the request.\n\n" \
         "### Instruction:\n{}\n\n{}### Response:\n{}"


def derivations(questions, answers):
    """Yields the name of a derivation, its base and its derivative."""
    n, chance = len(questions), random.Random(5)
    pairs = list(zip(questions, answers))
    qa = pa.table({"question": questions, "answer": answers})
    prompts = [f"### Question:\n{q}\n\n### Answer:\n{a}" for q, a in pairs]
    labels, names = [chance.randrange(4) for _ in pairs], ["world", "sports", "business", "science"]
    inputs = [a.split(".")[0] if chance.random() < 0.4 else "" for a in answers]
    chats = [
        [m for k in range(chance.randrange(1, 4)) for m in (
            {"from": "human", "value": questions[(i * 3 + k) % n]}, {"from": "gpt", "value": answers[(i * 3 + k) % n]})]
        for i in range(n)]
    messages = [[{"role": ROLE[m["from"]], "content": m["value"]} for m in chat] for chat in chats]
    turns = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in pairs]

    def edited(text):
        words = text.split(" ")
        if chance.random() < 0.3:
            words[chance.randrange(len(words))] = "EDIT"
        return " ".join(words)

    def alpaca(q, i, a):
        more = (", paired with an input", f"### Input:\n{i}\n\n") if i else ("", "")
        return ALPACA.format(more[0], q, more[1], a)

    def chatml(chat):
        return "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in chat)

    half = random.Random(6).sample(range(n), n // 2)
    yield "prompt", qa, pa.table({"text": prompts})
    yield "prompt, half of the rows, shuffled", qa, pa.table({"text": [prompts[i] for i in half]})
    yield "prompt, 30 % of texts edited", qa, pa.table({"text": [f"Q: {edited(q)}\nA: {edited(a)}" for q, a in pairs]})
    yield "prompt with and without an input", pa.table({"instruction": questions, "input": inputs, "output": answers}), \
        pa.table({"text": [alpaca(*row) for row in zip(questions, inputs, answers)]})
    yield "prompt and completion", qa, pa.table(
        {"prompt": [f"Q: {q}\nA:" for q in questions], "completion": [" " + a for a in answers]})
    yield "prompt with the name of a label", pa.table({"text": questions, "label": labels}), \
        pa.table({"prompt": [f"Classify: {q}\nLabel: {names[label]}" for q, label in zip(questions, labels)]})
    yield "upper case", qa, pa.table({"text": [f"{q.upper()} => {a}" for q, a in pairs]})
    yield "JSON in a text", qa, pa.table({"data": [json.dumps({"q": q, "a": a}) for q, a in pairs]})
    yield "messages from columns", qa, pa.table({"messages": turns})
    yield "messages beside the columns", qa, qa.append_column("messages", pa.array(turns))
    yield "conversations renamed to messages", pa.table({"conversations": chats}), pa.table({"messages": messages})
    system = [{"role": "system", "content": "You are a helpful assistant."}]
    yield "a system prompt before messages", pa.table({"messages": messages}), \
        pa.table({"messages": [system + chat for chat in messages]})
    yield "all but the last message, and that", pa.table({"messages": messages}), \
        pa.table({"prompt": [chat[:-1] for chat in messages], "completion": [chat[-1]["content"] for chat in messages]})
    yield "chats as text", pa.table({"messages": messages}), pa.table({"text": [chatml(chat) for chat in messages]})
    yield "columns from messages", pa.table({"messages": turns}), pa.table({"prompt": questions, "response": answers})
    yield "columns from prompts", pa.table({"text": prompts}), qa
    yield "final answer", qa, pa.table({"question": questions, "final": [a.split("#### ")[-1] for a in answers]})
    yield "translation pair", pa.table({"en": questions, "de": answers}), \
        pa.table({"translation": [{"en": q, "de": a} for q, a in pairs]})
    yield "columns swapped", qa, pa.table({"question": answers, "answer": questions})
    yield "four rows in one", qa, pa.table(
        {"text": ["\n\n".join(prompts[i:i + 4]) for i in range(0, n, 4)]})
    yield "as many new rows, wrapped", qa.take(pa.array(range(0, n, 2))), pa.table({"text": prompts})


def arrow(table):
    """Returns a table as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def patch(base, derivative):
    """Returns the size of one patch."""
    settings = zstandard.ZstdCompressionParameters.from_level(19, window_log=27, enable_ldm=True)
    prefix = zstandard.ZstdCompressionDict(arrow(base), dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return len(zstandard.ZstdCompressor(compression_params=settings, dict_data=prefix).compress(arrow(derivative)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sparse", required=True)
    parser.add_argument("--table", required=True)
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    table = pq.read_table(args.table).slice(0, args.rows)
    questions, answers = table["question"].to_pylist(), table["answer"].to_pylist()
    print("| derivation | cells | delta | one patch | compress, s |\n|---|---|---|---|---|")
    failed = 0
    for name, base, derivative in derivations(questions, answers):
        if args.names and name not in args.names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            b, d, delta, out = (str(pathlib.Path(folder, f)) for f in ("b.parquet", "d.parquet", "d.sparse", "o.parquet"))
            pq.write_table(base, b)
            pq.write_table(derivative, d)
            start = time.time()
            subprocess.run([args.sparse, "-q", "dataset-compress", b, d, "-o", delta], check=True)
            seconds = time.time() - start
            subprocess.run([args.sparse, "-q", "dataset-reconstruct", delta, "--base", b, "-o", out], check=True)
            if not pq.read_table(out).equals(pq.read_table(d), check_metadata=True):
                failed += 1
                print(f"{name}: what came back differs", file=sys.stderr)
            size = pathlib.Path(delta).stat().st_size
        print(f"| {name} | {derivative.nbytes} | {size} | {patch(base, derivative)} | {seconds:.2f} |", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
