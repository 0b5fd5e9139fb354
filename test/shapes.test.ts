import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { Analytics, LoggingConsumer, MillraceError, type Properties } from '../src/index.ts';
import { NAME_CHARACTERS_MAX } from '../src/record/names.ts';
import { type Shape, ShapeTable } from '../src/record/shapes.ts';
import { assertBalanced, newDirectory, readRecords } from './support.ts';

/** Goes through the names of a record; the name it was refused for, if it was. */
function walk(table: ShapeTable, names: readonly string[]): Shape | string {
  let shape = table.base;
  for (const name of names) {
    try {
      shape = table.step(shape, name);
    } catch (error) {
      assert.ok(error instanceof MillraceError);
      assert.equal(error.code, 'MILLRACE_INVALID_NAME');
      return name;
    }
  }
  return shape;
}

/** The first name that another before it is, but for its case. */
function refusedOf(names: readonly string[]): string | undefined {
  return names.find((name, at) =>
    names.slice(0, at).some((other) => other.toLowerCase() === name.toLowerCase()),
  );
}

// Goal: what a list of names costs does not decide what it means. Method: lists of few letters, so that many share a beginning
// or clash, in one table, against a slow rule that knows one list alone.
test('of the lists of names of one table each is judged as if it were alone', () => {
  const names = fc.uniqueArray(fc.constantFrom(...'abcABC'), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(fc.array(names, { minLength: 1, maxLength: 30 }), (lists) => {
      const table = new ShapeTable('strict');
      for (const list of lists) {
        const end = walk(table, list);
        const refused = refusedOf(list);
        if (typeof end === 'string') assert.equal(end, refused, list.join(' '));
        else {
          assert.equal(refused, undefined, list.join(' '));
          assert.deepEqual(end.keys(), list);
          assert.equal(end.size, list.length);
        }
      }
    }),
    { numRuns: 300, endOnFailure: true },
  );
});

// Goal: a table stays small whatever comes, unchecked names of any length too. Method: what it keeps it gives again.
test('a list with a name or an event of great length, or with very many names, is made for its record alone', () => {
  const table = new ShapeTable('none');
  const long = 'k'.repeat(1000);
  const kept = walk(table, ['a', 'b']) as Shape;
  assert.equal(kept, walk(table, ['a', 'b']));
  assert.ok(kept.isKept);
  const many = Array.from({ length: 5000 }, (_, index) => `n${index}`);
  for (const names of [['a', long], [long], ['a', long, 'c'], many]) {
    const shape = walk(table, names) as Shape;
    assert.deepEqual(shape.keys(), names);
    assert.equal(shape.isKept, false);
    assert.notEqual(shape, walk(table, names));
  }
  assert.equal(kept, walk(table, ['a', 'b']));
  const root = table.root(long, () => undefined);
  assert.equal(table.step(root, 'a').isKept, false);
  assert.equal(table.root('e', () => undefined).isKept, true);
  assert.notEqual(
    root,
    table.root(long, () => undefined),
  );
});

/** Names as long as they may be. */
function nameOf(index: number): string {
  return `n${index}_`.padEnd(NAME_CHARACTERS_MAX, 'x');
}

test('a record of very many names arrives whole, and one name in two spellings among them is refused', async () => {
  const directory = newDirectory();
  const ta = new Analytics(new LoggingConsumer({ directory, workers: 1, lanes: 1 }));
  const wide = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, index) => [nameOf(index), index]));
  // More definitions than there is room for: the last bring their names along, as the one that is not remembered does.
  const counts = [1, 20_000, ...Array<number>(100).fill(1000), 20_000, 2];
  for (const [index, count] of counts.entries()) {
    assert.ok(ta.track({ accountId: 'u', event: `wide_${index}`, properties: wide(count) }));
  }
  const twice = { ...wide(10_000), [nameOf(7).toUpperCase()]: 0 };
  assert.throws(() => ta.track({ accountId: 'u', event: 'twice', properties: twice }), /N7_XX/);
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, counts.length);
  const lines = readRecords(directory, readdirSync(directory));
  for (const [index, { properties }] of lines.entries()) {
    const { '#lib': _lib, '#lib_version': _version, ...own } = properties as Properties;
    // No comparison that shows both: they are long.
    assert.ok(JSON.stringify(own) === JSON.stringify(wide(counts[index] ?? 0)), `line ${index}`);
  }
});
