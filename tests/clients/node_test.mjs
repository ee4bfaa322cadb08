// The official JavaScript clients (`npm install ollama openai`) against `ponder serve`; run by with_server.py.
// node_test.mjs FOLDER-WITH-node_modules
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import path from 'node:path';

const folder = process.argv[2];
const require = createRequire(pathToFileURL(path.join(folder, 'package.json')));
const load = async (name) => import(pathToFileURL(require.resolve(name)));
const { Ollama } = await load('ollama');
const openaiModule = await load('openai');
const OpenAI = openaiModule.OpenAI ?? openaiModule.default;

const url = process.env.PONDER_TEST_URL;
const model = 'ponder-tiny';
const messages = [{ role: 'user', content: 'What is 17 + 25?' }];
const ollama = new Ollama({ host: url });
const openai = new OpenAI({ baseURL: url + '/v1', apiKey: 'none', maxRetries: 0 });

test('ollama: chat, whole and streamed', async () => {
  const whole = await ollama.chat({ model, messages });
  assert.match(whole.message.content, /42/);
  assert.ok(whole.message.thinking.length > 10);
  assert.equal(whole.done_reason, 'stop');
  let content = '', thinking = '', last;
  for await (const part of await ollama.chat({ model, messages, stream: true })) {
    content += part.message.content;
    thinking += part.message.thinking ?? '';
    last = part;
  }
  assert.equal(content, whole.message.content);
  assert.equal(thinking, whole.message.thinking);
  assert.equal(last.done, true);
  assert.ok(last.eval_count > 10);
});

test('ollama: thinking off', async () => {
  const r = await ollama.chat({ model, messages, think: false });
  assert.equal(r.message.thinking, undefined);
  assert.equal(r.thinking_tokens, 0);
});

test('ollama: generate, list, show, ps', async () => {
  assert.match((await ollama.generate({ model, prompt: messages[0].content })).response, /42/);
  assert.ok((await ollama.list()).models.some((m) => m.name === model + ':latest'));
  assert.ok((await ollama.show({ model })).capabilities.includes('thinking'));
  assert.equal((await ollama.ps()).models[0].name, model + ':latest');
});

test('ollama: errors', async () => {
  await assert.rejects(ollama.chat({ model: 'no-such-model', messages }), (e) => e.status_code === 404 && /no-such-model/.test(e.message));
  await assert.rejects(ollama.chat({ model, messages, think: 'hot' }), (e) => e.status_code === 400 && /think/.test(e.message));
  await assert.rejects(ollama.pull({ model: 'not a name' }), (e) => e.status_code === 400);
});

test('ollama: abort ends the work', async () => {
  const stream = await ollama.chat({ model, messages, stream: true, options: { num_predict: 1500, temperature: 1.6 } });
  await assert.rejects(async () => {
    for await (const part of stream) {
      assert.ok(part.message);
      stream.abort();
    }
  }, { name: 'AbortError' });
  await new Promise((done) => setTimeout(done, 250));
  const ps = await (await fetch(url + '/api/ps')).json();
  assert.equal(ps.models[0].running, 0);
});

test('openai: chat, whole and streamed', async () => {
  const whole = await openai.chat.completions.create({ model, messages });
  assert.match(whole.choices[0].message.content, /42/);
  assert.ok(whole.choices[0].message.reasoning_content.length > 10);
  assert.ok(whole.usage.completion_tokens_details.reasoning_tokens > 0);
  let content = '', reason, usage;
  const stream = await openai.chat.completions.create({ model, messages, stream: true, stream_options: { include_usage: true } });
  for await (const chunk of stream) {
    content += chunk.choices[0]?.delta?.content ?? '';
    reason = chunk.choices[0]?.finish_reason ?? reason;
    usage = chunk.usage ?? usage;
  }
  assert.equal(content, whole.choices[0].message.content);
  assert.equal(reason, 'stop');
  assert.equal(usage.total_tokens, whole.usage.total_tokens);
});

test('openai: models and errors', async () => {
  const ids = [];
  for await (const m of openai.models.list()) ids.push(m.id);
  assert.ok(ids.includes(model + ':latest'));
  await assert.rejects(openai.chat.completions.create({ model: 'no-such-model', messages }), (e) => e instanceof OpenAI.NotFoundError);
  await assert.rejects(openai.chat.completions.create({ model, messages, n: 2 }), (e) => e instanceof OpenAI.BadRequestError && /"n"/.test(e.message));
});
