/**
 * The script of the HTML report, put into it as text: draws one chart a section from the JSON in the page. It runs in a browser, whose types
 * this program doesn't have; what it uses of them is below.
 */
interface Metric {
  readonly key: string;
  readonly title: string;
  readonly digits: number;
  readonly better: 'less' | 'more';
}
interface Row {
  readonly name: string;
  readonly values: Readonly<Record<string, readonly number[]>>;
}
interface Section {
  readonly key: string;
  readonly chart: 'bars' | 'curve';
  readonly metrics: readonly Metric[];
  readonly rows: readonly Row[];
}
interface Page {
  getElementById(id: string): Element | null;
  createElement(name: string): Element;
  readonly documentElement: Element;
}
interface Element {
  textContent: string;
  className: string;
  readonly style: Record<string, string>;
  append(...children: Element[]): void;
  replaceChildren(...children: Element[]): void;
  setAttribute(name: string, value: string): void;
  addEventListener(event: string, listener: () => void): void;
}
interface Area {
  readonly left: number;
  readonly right: number;
}
interface Drawing {
  readonly ctx: Record<string, unknown> & {
    beginPath(): void;
    moveTo(x: number, y: number): void;
    lineTo(x: number, y: number): void;
    stroke(): void;
    fillText(text: string, x: number, y: number): void;
    measureText(text: string): { width: number };
    save(): void;
    restore(): void;
  };
  readonly chartArea: Area;
  readonly scales: Record<string, { getPixelForValue(value: number): number }>;
  getDatasetMeta(index: number): { data: readonly { x: number; y: number }[] };
}
interface ChartClass {
  new (canvas: Element, config: object): { destroy(): void };
  readonly defaults: { color: string; borderColor: string; font: { family: string; size: number } };
}
declare const Chart: ChartClass;
declare const document: Page;
declare function getComputedStyle(element: Element): { getPropertyValue(name: string): string };
declare function matchMedia(query: string): {
  addEventListener(event: string, listener: () => void): void;
};

interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

const ROW_PX = 30;
const BARS_EXTRA_PX = 56;
const CURVE_PX = 250;
const CAP_PX = 4;

const { sections } = JSON.parse(document.getElementById('report')?.textContent ?? '{}') as {
  sections: readonly Section[];
};
let charts: { destroy(): void }[] = [];

function spreadOf(values: readonly number[] = []): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? 0;
  const median = sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? upper)) / 2;
  return { median, min: sorted[0] ?? 0, max: sorted[sorted.length - 1] ?? 0 };
}

function show(value: number, { digits }: Metric): string {
  return value.toLocaleString('en-US', { maximumFractionDigits: digits });
}

function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function colourOf({ name }: Row): string {
  return colour(name.startsWith('millrace') ? '--ours' : '--others');
}

/** Lines from the least to the most, with caps, and beside bars the median as text. */
function marks(spreads: readonly Spread[], metric: Metric, isHorizontal: boolean): object {
  return {
    id: 'marks',
    afterDatasetsDraw: (chart: Drawing) => {
      const { ctx } = chart;
      ctx.save();
      Object.assign(ctx, {
        strokeStyle: colour('--ink'),
        fillStyle: colour('--ink'),
        lineWidth: 1,
      });
      Object.assign(ctx, { font: '12px system-ui, sans-serif', textBaseline: 'middle' });
      for (const [index, point] of chart.getDatasetMeta(0).data.entries()) {
        const spread = spreads[index];
        if (spread === undefined) continue;
        if (isHorizontal) markBar(chart, { spread, y: point.y, text: show(spread.median, metric) });
        else markPoint(chart, { spread, x: point.x });
      }
      ctx.restore();
    },
  };
}

function markBar(
  { ctx, scales, chartArea }: Drawing,
  { spread, y, text }: { spread: Spread; y: number; text: string },
): void {
  const from = scales.x?.getPixelForValue(spread.min) ?? 0;
  const to = scales.x?.getPixelForValue(spread.max) ?? 0;
  if (spread.max > spread.min) {
    ctx.beginPath();
    line(ctx, [from, y], [to, y]);
    for (const x of [from, to]) line(ctx, [x, y - CAP_PX], [x, y + CAP_PX]);
    ctx.stroke();
  }
  ctx.fillText(text, Math.min(to + 8, chartArea.right - ctx.measureText(text).width), y);
}

function markPoint({ ctx, scales }: Drawing, { spread, x }: { spread: Spread; x: number }): void {
  if (spread.max === spread.min) return;
  const from = scales.y?.getPixelForValue(spread.min) ?? 0;
  const to = scales.y?.getPixelForValue(spread.max) ?? 0;
  ctx.beginPath();
  line(ctx, [x, from], [x, to]);
  for (const y of [from, to]) line(ctx, [x - CAP_PX, y], [x + CAP_PX, y]);
  ctx.stroke();
}

function line(
  ctx: Drawing['ctx'],
  [fromX, fromY]: readonly [number, number],
  [toX, toY]: readonly [number, number],
): void {
  ctx.moveTo(fromX, fromY);
  ctx.lineTo(toX, toY);
}

function configOf(section: Section, metric: Metric): object {
  const isBars = section.chart === 'bars';
  const rows = section.rows.filter(({ values }) => (values[metric.key]?.length ?? 0) > 0);
  const spreads = rows.map(({ values }) => spreadOf(values[metric.key]));
  const most = Math.max(...spreads.map(({ max }) => max));
  const values = {
    beginAtZero: true,
    // Room for the text beyond the longest bar.
    suggestedMax: most * (isBars ? 1.15 : 1.05),
    grid: { color: colour('--grid') },
    title: {
      display: true,
      text: `${metric.title} (${metric.better} is better)`,
    },
  };
  const names = { grid: { display: false }, ticks: { autoSkip: false } };
  return {
    type: isBars ? 'bar' : 'line',
    data: {
      labels: rows.map(({ name }) => name),
      datasets: [
        {
          data: spreads.map(({ median }) => median),
          backgroundColor: isBars ? rows.map(colourOf) : colour('--ours'),
          borderColor: colour('--ours'),
          borderWidth: isBars ? 0 : 2,
          barPercentage: 0.75,
          pointRadius: 4,
        },
      ],
    },
    options: {
      indexAxis: isBars ? 'y' : 'x',
      animation: false,
      responsive: true,
      maintainAspectRatio: false,
      plugins: { legend: { display: false } },
      scales: isBars ? { x: values, y: names } : { x: names, y: values },
    },
    plugins: [marks(spreads, metric, isBars)],
  };
}

function boxOf(section: Section, metric: Metric): { box: Element; canvas: Element } {
  const box = document.createElement('div');
  box.className = section.chart === 'bars' ? 'bars' : 'curve';
  const px = section.chart === 'bars' ? section.rows.length * ROW_PX + BARS_EXTRA_PX : CURVE_PX;
  box.style.height = `${px}px`;
  const canvas = document.createElement('canvas');
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', `${metric.title}; the same figures are in the table`);
  box.append(canvas);
  return { box, canvas };
}

function drawSection(section: Section, chosen: Metric | undefined): void {
  const place = document.getElementById(`chart-${section.key}`);
  if (place === null) return;
  const metrics = section.chart === 'bars' && chosen !== undefined ? [chosen] : section.metrics;
  const boxes = metrics.map((metric) => ({ metric, ...boxOf(section, metric) }));
  place.replaceChildren(...boxes.map(({ box }) => box));
  for (const { canvas, metric } of boxes) charts.push(new Chart(canvas, configOf(section, metric)));
}

/** Buttons that choose the figure of a bar chart. */
function addButtons(section: Section): void {
  const place = document.getElementById(`buttons-${section.key}`);
  if (place === null || section.chart !== 'bars' || section.metrics.length < 2) return;
  const buttons = section.metrics.map((metric, index) => {
    const button = document.createElement('button');
    button.textContent = metric.title;
    button.setAttribute('aria-pressed', String(index === 0));
    button.addEventListener('click', () => {
      for (const other of buttons) other.setAttribute('aria-pressed', String(other === button));
      drawSection(section, metric);
    });
    return button;
  });
  place.replaceChildren(...buttons);
}

function draw(): void {
  for (const chart of charts) chart.destroy();
  charts = [];
  Chart.defaults.color = colour('--ink');
  Chart.defaults.borderColor = colour('--grid');
  Chart.defaults.font.family = 'system-ui, sans-serif';
  Chart.defaults.font.size = 12;
  for (const section of sections) {
    addButtons(section);
    drawSection(section, section.metrics[0]);
  }
}

matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
draw();
