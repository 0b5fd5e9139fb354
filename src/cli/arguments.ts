import { InvalidArgumentError } from 'commander';

/** Parsers of option values: what they throw becomes a usage error that names the option. */

export function parseCount(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isInteger(value) && value >= 0) return value;
  throw new InvalidArgumentError('It must be a whole number, not negative.');
}

export function parsePositive(text: string): number {
  const value = Number(text);
  if (Number.isFinite(value) && value > 0) return value;
  throw new InvalidArgumentError('It must be a number above 0.');
}

export function parsePort(text: string): number {
  const value = parseCount(text);
  if (value <= 65_535) return value;
  throw new InvalidArgumentError('It must be a port, 0 to 65535.');
}
