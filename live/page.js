// The script of the live page. Everything that comes from a record or a message goes into the page as text, never as HTML.
/* global uPlot */

const KIND = document.documentElement.dataset.kind;
const POINTS_MAX = 300;
/** Percentiles are of the records of so many seconds. */
const WINDOW_S = 10;
const MINUTE_S = 60;
const OLD_MS = 30_000;
const base = location.pathname.endsWith('/') ? location.pathname : `${location.pathname}/`;
const byId = (id) => document.getElementById(id);

/** What came from the server: the last five minutes, oldest first. */
const frames = [];
let isPaused = false;
let charts = [];

for (const element of document.querySelectorAll('[data-for]')) {
  element.hidden = element.dataset.for !== KIND;
}

// ---- words and numbers

const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en-US', { notation: 'compact', maximumFractionDigits: 1 });

function count(value) {
  return Math.abs(value) < 100_000 ? whole.format(value) : short.format(value);
}

function rate(value) {
  return value > 0 && value < 10 ? value.toFixed(1) : count(value);
}

function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let size = value;
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? size : size.toFixed(1)} ${units[unit]}`;
}

function duration(seconds) {
  if (seconds === 0) return '0';
  if (seconds < 0.001) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (seconds < 1) return `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  return seconds < 7200 ? `${(seconds / 60).toFixed(0)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function percent(share) {
  return `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
}

function agoOf(ms) {
  const seconds = Math.max(0, (frames.at(-1).timeMs - ms) / 1000);
  return seconds < 2 ? 'now' : `${duration(seconds)} ago`;
}

// ---- elements

/** Makes an element; text is text. */
function make(name, { className, text, children = [], ...attributes } = {}) {
  const element = document.createElement(name);
  if (className !== undefined) element.className = className;
  if (text !== undefined) element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Puts text into a place only when it changed, so that a selection or a screen reader is not disturbed. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A cell with a bar and its number. */
function bar(share, text) {
  const fill = make('b', {});
  fill.style.width = `${Math.min(100, share * 100).toFixed(1)}%`;
  const track = make('span', { children: [fill], 'aria-hidden': 'true' });
  return make('div', { className: 'bar', children: [track, make('span', { text })] });
}

/** Rows of a table: the first cell of each is its heading. A cell is text or an element. */
function fillTable(id, rows, empty = 'none') {
  const body = byId(id).tBodies[0];
  const columns = byId(id).tHead.rows[0].cells;
  const made = rows.map((cells) => {
    const children = cells.map((cell, index) => {
      const content = cell instanceof Element ? { children: [cell] } : { text: cell };
      const name = index === 0 ? 'th' : 'td';
      const scope = index === 0 ? { scope: 'row' } : {};
      return make(name, { ...content, ...scope, className: columns[index]?.className ?? '' });
    });
    return make('tr', { children });
  });
  if (made.length === 0) {
    const cell = make('td', { text: empty, colspan: String(columns.length) });
    made.push(make('tr', { children: [cell] }));
  }
  body.replaceChildren(...made);
}

/** Tiles stay where they are: only their texts change. */
function fillTiles(tiles) {
  const list = byId('tiles');
  tiles.forEach(({ name, value, note = '', state = '' }, index) => {
    let tile = list.children[index];
    if (tile === undefined) {
      tile = make('div', { children: [make('dt'), make('dd')] });
      tile.lastChild.append(make('span'), make('small'));
      list.append(tile);
    }
    const [title, content] = tile.children;
    setText(title, name);
    setText(content.children[0], value);
    setText(content.children[1], note);
    tile.dataset.state = state;
  });
}

function setStatus(state, text) {
  byId('status').dataset.state = state;
  setText(byId('status'), text);
}

// ---- arithmetic

function addAll(objects) {
  const sum = {};
  for (const object of objects) {
    for (const [key, value] of Object.entries(object)) sum[key] = (sum[key] ?? 0) + value;
  }
  return sum;
}

function addHistograms(histograms) {
  const [first] = histograms;
  if (first === undefined) return { bounds: [], counts: [] };
  const counts = first.counts.map((_, index) =>
    histograms.reduce((sum, one) => sum + (one.counts[index] ?? 0), 0),
  );
  return { bounds: first.bounds, counts };
}

/** The value below which `share` of what came between two looks lies; null: nothing came. */
function quantile(share, before, after) {
  const counts = after.counts.map((value, index) => value - (before?.counts[index] ?? 0));
  const all = counts.reduce((sum, value) => sum + value, 0);
  if (all <= 0) return null;
  let left = share * all;
  for (let index = 0; index < counts.length; index += 1) {
    const low = index === 0 ? 0 : after.bounds[index - 1];
    const high = after.bounds[index] ?? low;
    if (left <= counts[index]) return low + (high - low) * (left / counts[index]);
    left -= counts[index];
  }
  return after.bounds.at(-1) ?? null;
}

/** The frame of about `seconds` ago, or the oldest there is. */
function frameBefore(index, seconds) {
  const wanted = frames[index].timeMs - seconds * 1000;
  let at = index;
  while (at > 0 && frames[at].timeMs > wanted) at -= 1;
  return frames[at];
}

// ---- charts

/** What each chart draws: `of(view, views)` gives a value for each curve at one frame. */
const CHARTS = {
  engine: [
    {
      title: 'Records a second',
      curves: ['accepted', 'delivered', 'given up'],
      show: rate,
      of: (now, before, seconds) => [
        perSecond(now.accepted, before.accepted, seconds),
        perSecond(now.delivered, before.delivered, seconds),
        perSecond(now.lost, before.lost, seconds),
      ],
      colors: ['--c1', '--c2', '--c3'],
    },
    {
      title: 'Waiting records',
      curves: ['in the ring', 'on disk'],
      show: count,
      of: (now) => [now.queued, now.spool.records],
      colors: ['--c1', '--c4'],
    },
    {
      title: 'From track() to settled',
      curves: ['median', 'p99'],
      show: duration,
      of: (now, _before, _seconds, past) => [
        quantile(0.5, past.delivery, now.delivery),
        quantile(0.99, past.delivery, now.delivery),
      ],
      colors: ['--c2', '--c4'],
    },
    {
      title: 'Time of an attempt',
      curves: ['median', 'p99'],
      show: duration,
      of: (now, _before, _seconds, past) => [
        quantile(0.5, past.request, now.request),
        quantile(0.99, past.request, now.request),
      ],
      colors: ['--c2', '--c4'],
    },
  ],
  receiver: [
    {
      title: 'Records a second',
      curves: ['taken', 'repeated', 'refused'],
      show: rate,
      of: (now, before, seconds) => [
        perSecond(now.records, before.records, seconds),
        perSecond(now.duplicates, before.duplicates, seconds),
        perSecond(now.refused, before.refused, seconds),
      ],
      colors: ['--c2', '--c4', '--c3'],
    },
    {
      title: 'From #time to arrival',
      curves: ['median', 'p99'],
      show: duration,
      of: (now) => [now.latencyMs.p50 / 1000, now.latencyMs.p99 / 1000],
      colors: ['--c1', '--c4'],
    },
  ],
};

function perSecond(now, before, seconds) {
  return Math.max(0, now - before) / seconds;
}

function colorOf(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function makeCharts() {
  for (const { plot } of charts) plot.destroy();
  byId('charts').replaceChildren();
  charts = CHARTS[KIND].map(makeChart);
}

function makeChart(plan) {
  const values = plan.curves.map(() => make('b', { text: '–' }));
  const key = make('ul', {
    className: 'key',
    children: plan.curves.map((curve, index) => {
      const line = make('i', { 'aria-hidden': 'true' });
      line.style.color = colorOf(plan.colors[index]);
      line.style.borderTopStyle = index === 0 ? 'solid' : 'dashed';
      return make('li', { children: [line, `${curve} `, values[index]] });
    }),
  });
  const caption = make('figcaption', { children: [make('strong', { text: plan.title }), key] });
  const place = make('div', { className: 'plot', role: 'img', tabindex: '0' });
  byId('charts').append(make('figure', { children: [caption, place] }));
  const plot = new uPlot(optionsOf(plan, place, values), [[], ...plan.curves.map(() => [])], place);
  const chart = { plan, plot, place, values };
  place.addEventListener('keydown', (event) => followKeys(chart, event));
  place.addEventListener('blur', () => plot.setCursor({ left: -10, top: -10 }));
  return chart;
}

function optionsOf(plan, place, values) {
  const axis = { stroke: colorOf('--soft'), grid: { stroke: colorOf('--line'), width: 1 } };
  return {
    width: Math.max(200, place.clientWidth),
    height: 190,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false } },
    scales: { y: { range: (_plot, _low, high) => [0, high > 0 ? high * 1.1 : 1] } },
    axes: [
      {
        ...axis,
        ticks: { show: false },
        size: 30,
        space: 90,
        values: (_plot, at) => at.map((seconds) => timeOf(seconds * 1000)),
      },
      { ...axis, ticks: { show: false }, size: 62, values: (_plot, at) => at.map(plan.show) },
    ],
    series: [
      {},
      ...plan.curves.map((_, index) => ({
        stroke: colorOf(plan.colors[index]),
        width: 2,
        points: { show: false },
        ...(index === 0 ? {} : { dash: [6, 4] }),
      })),
    ],
    hooks: { setCursor: [(plot) => showValues({ plan, plot, values })] },
  };
}

/** The values under the cursor, or the latest. */
function showValues({ plan, plot, values }) {
  const index = plot.cursor.idx ?? plot.data[0].length - 1;
  values.forEach((element, curve) => {
    const value = plot.data[curve + 1][index];
    setText(element, value === null || value === undefined ? '–' : plan.show(value));
  });
}

function followKeys({ plot }, event) {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (event.key === 'Escape') plot.setCursor({ left: -10, top: -10 });
  if (step === undefined) return;
  event.preventDefault();
  const last = plot.data[0].length - 1;
  const index = Math.max(0, Math.min(last, (plot.cursor.idx ?? last) + step));
  plot.setCursor({ left: plot.valToPos(plot.data[0][index], 'x'), top: 0 });
}

function drawCharts(views) {
  for (const chart of charts) {
    const { plan, plot, place, values } = chart;
    const data = [[], ...plan.curves.map(() => [])];
    for (let index = 1; index < views.length; index += 1) {
      const seconds = Math.max(0.001, (frames[index].timeMs - frames[index - 1].timeMs) / 1000);
      const past = views[frames.indexOf(frameBefore(index, WINDOW_S))];
      data[0].push(frames[index].timeMs / 1000);
      const points = plan.of(views[index], views[index - 1], seconds, past);
      points.forEach((point, curve) => {
        data[curve + 1].push(point);
      });
    }
    const width = Math.max(200, place.clientWidth);
    if (plot.width !== width) plot.setSize({ width, height: 190 });
    plot.setData(data);
    showValues(chart);
    const said = plan.curves.map((curve, index) => `${curve} ${values[index].textContent}`);
    place.setAttribute('aria-label', `${plan.title}, the last five minutes: ${said.join(', ')}`);
  }
}

// ---- the engine's page

/** One client's numbers, or those of all clients together. */
function viewOf(frame) {
  const wanted = byId('client').value;
  const clients = frame.clients.filter(({ client }) => wanted === '' || client === wanted);
  const sum = (pick) => clients.reduce((total, client) => total + pick(client), 0);
  const most = (pick) => clients.reduce((top, client) => Math.max(top, pick(client)), 0);
  const dropped = addAll(clients.map((client) => client.dropped));
  return {
    clients,
    accepted: sum(({ accepted }) => accepted),
    delivered: sum(({ delivered }) => delivered),
    rejected: sum(({ rejected }) => rejected),
    dropped,
    lost: Object.values(dropped).reduce((total, value) => total + value, 0),
    queued: sum(({ queued }) => queued),
    inFlight: sum(({ inFlight }) => inFlight),
    ringShare: most(({ queuedBytes, capacityBytes }) => queuedBytes / capacityBytes),
    rawBytes: sum(({ rawBytes }) => rawBytes),
    sentBytes: sum(({ sentBytes }) => sentBytes),
    oldestMs: most(({ oldestQueuedAgeMs, oldestSpooledAgeMs }) =>
      Math.max(oldestQueuedAgeMs, oldestSpooledAgeMs),
    ),
    imbalance: sum(({ imbalance }) => Math.abs(imbalance)),
    retries: sum(({ retries }) => retries),
    spool: addAll(clients.map(({ spool }) => spool)),
    alive: sum(({ workers }) => workers.alive),
    configured: sum(({ workers }) => workers.configured),
    restarts: sum(({ workers }) => workers.restarts),
    lastSuccessMs: Math.min(...clients.map(({ lastSuccessMs }) => lastSuccessMs)),
    circuit: most(({ breakerState }) => breakerState),
    codes: addAll(clients.map(({ requests }) => requests)),
    delivery: addHistograms(clients.map(({ delivery }) => delivery)),
    request: addHistograms(clients.map(({ request }) => request)),
    call: addHistograms(clients.map(({ call }) => call)),
  };
}

const CIRCUIT = ['closed', 'half-open', 'open'];

function engineStatus(now, before) {
  if (now.clients.length === 0) return ['warn', 'No client is open'];
  if (now.imbalance !== 0) return ['bad', 'The account does not add up'];
  if (now.circuit !== 0) return ['bad', 'The receiver does not answer'];
  if (lostIn(now, before) > 0) return ['bad', 'Records are given up'];
  if (now.oldestMs > OLD_MS) return ['warn', 'Delivery is behind'];
  if (now.alive < now.configured) return ['warn', 'Workers are missing'];
  return ['good', 'All is well'];
}

function lostIn(now, before) {
  return now.lost - before.lost;
}

function engineTiles(now, before, seconds) {
  const lost = perSecond(now.lost, before.lost, seconds);
  const spoolShare = now.spool.capacityBytes > 0 ? now.spool.bytes / now.spool.capacityBytes : 0;
  const callNs = quantile(0.5, undefined, now.call);
  return [
    {
      name: 'Accepted a second',
      value: rate(perSecond(now.accepted, before.accepted, seconds)),
      note: `${count(now.accepted)} in all`,
    },
    {
      name: 'Delivered a second',
      value: rate(perSecond(now.delivered, before.delivered, seconds)),
      note: `${count(now.delivered)} in all`,
    },
    {
      name: 'Given up a second',
      value: rate(lost),
      note: `${count(now.lost)} in all, ${count(now.rejected)} refused`,
      state: lost > 0 ? 'bad' : '',
    },
    {
      name: 'In the ring',
      value: count(now.queued),
      note: `${percent(now.ringShare)} full, ${count(now.inFlight)} in flight`,
      state: now.ringShare > 0.8 ? 'bad' : '',
    },
    {
      name: 'On disk',
      value: count(now.spool.records ?? 0),
      note: now.spool.capacityBytes > 0 ? `${percent(spoolShare)} of the spool` : 'no spool',
      state: spoolShare > 0.8 ? 'bad' : '',
    },
    {
      name: 'Oldest record',
      value: duration(now.oldestMs / 1000),
      note: 'rises when anything is stuck',
      state: now.oldestMs > OLD_MS ? 'warn' : '',
    },
    {
      name: 'Last success',
      value: now.lastSuccessMs > 0 ? agoOf(now.lastSuccessMs) : 'never',
      note: 'a batch was acknowledged',
    },
    {
      name: 'Receiver',
      value: CIRCUIT[now.circuit] === 'closed' ? 'answers' : CIRCUIT[now.circuit],
      note: `${count(now.retries)} repeated attempts`,
      state: now.circuit === 0 ? '' : 'bad',
    },
    {
      name: 'Workers',
      value: `${now.alive} of ${now.configured}`,
      note: `${now.restarts} replaced`,
      state: now.alive < now.configured ? 'warn' : '',
    },
    {
      name: 'Compression',
      value: now.sentBytes > 0 ? `${(now.rawBytes / now.sentBytes).toFixed(1)} : 1` : '–',
      note: `${bytes(now.sentBytes)} sent`,
    },
    {
      name: 'A tracking call',
      value: callNs === null ? '–' : duration(callNs),
      note: 'median, of every 64th',
    },
    {
      name: 'Imbalance',
      value: count(now.imbalance),
      note: 'must be 0',
      state: now.imbalance === 0 ? '' : 'bad',
    },
  ];
}

/** Counts whose label alone says too little. */
const NAMES = { none: 'written to a file' };

/** Rows of counts by name, those that are not 0, with what came in the last minute. */
function countRows(now, past) {
  return Object.entries(now)
    .filter(([, value]) => value > 0)
    .map(([name, value]) => [NAMES[name] ?? name, count(value), count(value - (past[name] ?? 0))]);
}

function fillEngine(views) {
  const last = frames.length - 1;
  const now = views[last];
  const before = views[Math.max(0, last - 1)];
  const seconds = Math.max(
    0.001,
    (frames[last].timeMs - frames[Math.max(0, last - 1)].timeMs) / 1000,
  );
  const minute = views[frames.indexOf(frameBefore(last, MINUTE_S))];
  setStatus(...engineStatus(now, before));
  fillTiles(engineTiles(now, before, seconds));
  const many = now.clients.length > 1;
  const name = (client, number) => (many ? `${client} ${number}` : String(number));
  const fullest = Math.max(
    1,
    ...now.clients.flatMap(({ lanes }) => lanes.map(({ queued }) => queued)),
  );
  fillTable(
    'lanes',
    now.clients.flatMap(({ client, lanes }) =>
      lanes.map((lane) => [
        name(client, lane.lane),
        bar(lane.queued / fullest, count(lane.queued)),
        count(lane.inFlight),
        count(lane.spooled),
        duration(lane.oldestAgeMs / 1000),
      ]),
    ),
  );
  fillTable(
    'threads',
    now.clients.flatMap((client) => threadRows(client, { before, seconds, name })),
  );
  fillTable('drops', countRows(now.dropped, minute.dropped));
  fillTable('codes', countRows(now.codes, minute.codes));
  fillTable('spool', spoolRows(now.clients), 'no client has a spool');
  fillTroubles(now.clients);
  const [{ build } = { build: undefined }] = now.clients;
  if (build !== undefined) {
    setText(byId('about'), `millrace ${build.version}, Node ${build.node}, ${build.codec} codec`);
  }
}

function threadRows({ client, threads }, { before, seconds, name }) {
  const known = before.clients.find((one) => one.client === client);
  return threads.map((thread) => {
    const past = known?.threads.find(({ worker }) => worker === thread.worker) ?? thread;
    const busy = Math.min(1, Math.max(0, thread.busyMs - past.busyMs) / 1000 / seconds);
    return [
      name(client, thread.worker),
      bar(busy, percent(busy)),
      rate(perSecond(thread.batches, past.batches, seconds)),
      count(thread.requestsInFlight),
      signOf(thread.heartbeatAgeMs),
    ];
  });
}

function signOf(ageMs) {
  if (ageMs === undefined) return 'gone';
  return ageMs < 1000 ? 'now' : duration(ageMs / 1000);
}

function spoolRows(clients) {
  return clients
    .filter(({ spool }) => spool.capacityBytes > 0)
    .map(({ client, spool, oldestSpooledAgeMs }) => [
      client,
      bar(spool.bytes / spool.capacityBytes, bytes(spool.bytes)),
      count(spool.records),
      count(spool.segments),
      duration(oldestSpooledAgeMs / 1000),
    ]);
}

/** Newest first. Lines that are there already stay the same elements, so that only new ones are read out. */
function fillTroubles(clients) {
  const list = byId('troubles');
  const wanted = clients
    .flatMap(({ client, troubles }) => troubles.map((trouble) => ({ client, ...trouble })))
    .toSorted((a, b) => b.timeMs - a.timeMs)
    .slice(0, 50);
  const present = new Map([...list.children].map((line) => [line.dataset.key, line]));
  const lines = wanted.map((trouble) => {
    const key = `${trouble.client} ${trouble.code} ${trouble.message}`;
    const line = present.get(key) ?? troubleLine(trouble, key);
    setText(line.querySelector('time'), timeOf(trouble.timeMs));
    setText(line.querySelector('small'), trouble.times > 1 ? ` ×${trouble.times}` : '');
    return line;
  });
  if (lines.length === 0)
    lines.push(present.get('') ?? make('li', { text: 'none', 'data-key': '' }));
  const isSame = lines.every((line, index) => list.children[index] === line);
  if (!isSame || list.children.length !== lines.length) list.replaceChildren(...lines);
}

function troubleLine({ client, level, code, message }, key) {
  return make('li', {
    'data-key': key,
    children: [
      make('time'),
      make('span', { className: `tag ${level}`, text: level }),
      make('code', { text: code }),
      make('span', { text: `${client}: ${message}` }),
      make('small'),
    ],
  });
}

function timeOf(ms) {
  return new Date(ms).toLocaleTimeString('en-GB');
}

// ---- the receiver's page

function receiverTiles(now, before, seconds) {
  const isRefusing = now.refused > before.refused;
  return [
    {
      name: 'Records a second',
      value: rate(perSecond(now.records, before.records, seconds)),
      note: `${count(now.records)} in ${count(now.batches)} batches`,
    },
    {
      name: 'Requests a second',
      value: rate(perSecond(now.requests, before.requests, seconds)),
      note: `${count(now.requests)} in all`,
    },
    { name: 'Unique', value: count(now.unique), note: 'by #uuid' },
    { name: 'Repeated', value: count(now.duplicates), note: 'dropped by #uuid' },
    {
      name: 'Refused',
      value: count(now.refused),
      note: 'records in refused batches',
      state: isRefusing ? 'bad' : '',
    },
    {
      name: 'Faults',
      value: count(now.faulted),
      note: 'requests failed on purpose',
      state: now.faulted > before.faulted ? 'warn' : '',
    },
    {
      name: 'Compression',
      value: now.bytesWire > 0 ? `${(now.bytesRaw / now.bytesWire).toFixed(1)} : 1` : '–',
      note: `${bytes(now.bytesWire)} received`,
    },
    { name: 'Slowest', value: duration(now.latencyMs.max / 1000), note: 'from #time to arrival' },
  ];
}

function fillReceiver(views) {
  const last = views.length - 1;
  const now = views[last];
  const before = views[Math.max(0, last - 1)];
  const seconds = Math.max(
    0.001,
    (frames[last].timeMs - frames[Math.max(0, last - 1)].timeMs) / 1000,
  );
  if (now.refused > before.refused) setStatus('bad', 'Records are refused');
  else if (now.faulted > before.faulted) setStatus('warn', 'Requests fail on purpose');
  else setStatus('good', 'All is well');
  fillTiles(receiverTiles(now, before, seconds));
  fillTable(
    'types',
    Object.entries(now.byType).map(([type, value]) => [
      type,
      count(value),
      rate(perSecond(value, before.byType[type] ?? 0, seconds)),
    ]),
  );
  fillTable(
    'errors',
    Object.entries(now.errors).map(([reason, value]) => [reason, count(value)]),
  );
  fillTypes(Object.keys(now.byType));
  setText(byId('about'), `app ids: ${Object.keys(now.byAppId).join(', ') || 'none yet'}`);
}

function fillTypes(types) {
  const select = byId('type');
  const known = new Set([...select.options].map(({ value }) => value));
  for (const type of types) {
    if (!known.has(type)) select.append(make('option', { value: type, text: type }));
  }
}

let recordsShown = '';
let recordsAsked = 0;

async function fillRecords() {
  const wanted = { q: byId('q').value, type: byId('type').value, state: byId('state').value };
  const query = new URLSearchParams(wanted);
  recordsAsked += 1;
  const asked = recordsAsked;
  const reply = await fetch(`${base}records?${query}`);
  const text = await reply.text();
  // Somebody has asked for others meanwhile, or nothing is new: what the reader has opened stays open.
  if (asked !== recordsAsked || text === recordsShown) return;
  recordsShown = text;
  const { records, matched } = JSON.parse(text);
  setText(
    byId('found'),
    `${count(records.length)} shown of ${count(matched)} that match, newest first`,
  );
  const list = byId('records');
  const open = new Set(
    [...list.querySelectorAll('details[open]')].map(({ dataset }) => dataset.key),
  );
  list.replaceChildren(...records.map((record) => recordLine(record, open)));
}

function recordLine({ number, timeMs, state, reason, record }, open) {
  const type = String(record['#type'] ?? 'no type');
  const user = String(record['#account_id'] ?? record['#distinct_id'] ?? 'nobody');
  const words = [type, record['#event_name'] ?? '', user, reason].filter((word) => word !== '');
  const summary = make('summary', {
    children: [
      make('time', { text: timeOf(timeMs) }),
      make('span', { className: `tag ${state}`, text: state }),
      make('span', { text: words.join(' · ') }),
    ],
  });
  const details = make('details', {
    'data-key': String(number),
    children: [summary, make('pre', { text: JSON.stringify(record, undefined, 2) })],
  });
  details.open = open.has(String(number));
  return make('li', { children: [details] });
}

// ---- life

function fillClients(frame) {
  const select = byId('client');
  const names = frame.clients.map(({ client }) => client);
  const known = [...select.options].slice(1).map(({ value }) => value);
  if (names.join('\n') === known.join('\n')) return;
  const chosen = select.value;
  const all = make('option', { value: '', text: 'all' });
  select.replaceChildren(all, ...names.map((name) => make('option', { value: name, text: name })));
  select.value = names.includes(chosen) ? chosen : '';
}

function render() {
  if (frames.length === 0) return;
  if (KIND === 'engine') {
    fillClients(frames.at(-1));
    const views = frames.map(viewOf);
    fillEngine(views);
    drawCharts(views);
    return;
  }
  const views = frames.map(({ receiver }) => receiver);
  fillReceiver(views);
  drawCharts(views);
}

function take(frame) {
  // A process that started anew counts from 0: what was before is another story.
  if (frames.length > 0 && frame.started !== frames.at(-1).started) frames.length = 0;
  frames.push(frame);
  if (frames.length > POINTS_MAX) frames.shift();
  if (isPaused || document.hidden) return;
  render();
  if (KIND === 'receiver')
    fillRecords().catch(() => setStatus('bad', 'Disconnected, trying again'));
}

function connect() {
  const events = new EventSource(`${base}events`);
  events.addEventListener('message', ({ data }) => take(JSON.parse(data)));
  events.addEventListener('error', () => setStatus('bad', 'Disconnected, trying again'));
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  setText(byId('theme'), theme === 'dark' ? 'Light' : 'Dark');
  byId('theme').setAttribute(
    'aria-label',
    `Switch to the ${theme === 'dark' ? 'light' : 'dark'} theme`,
  );
  makeCharts();
  render();
}

const darkWanted = matchMedia('(prefers-color-scheme: dark)');
darkWanted.addEventListener('change', () => setTheme(darkWanted.matches ? 'dark' : 'light'));
byId('theme').addEventListener('click', () => {
  setTheme(document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark');
});
byId('pause').addEventListener('click', () => {
  isPaused = !isPaused;
  byId('pause').setAttribute('aria-pressed', String(isPaused));
  setText(byId('pause'), isPaused ? 'Go on' : 'Pause');
  render();
});
byId('client').addEventListener('change', render);
byId('filter').addEventListener('submit', (event) => event.preventDefault());
byId('filter').addEventListener('input', () => void fillRecords());
addEventListener('resize', render);
document.addEventListener('visibilitychange', render);
setTheme(darkWanted.matches ? 'dark' : 'light');
connect();
