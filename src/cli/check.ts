import { Command } from 'commander';
import { check } from '../ship/check.ts';

/** `millrace check`: validates log files. */
export function checkCommand(): Command {
  return new Command('check')
    .description(
      'validate log files (plain or .gz) against the wire contract; exit code 1 on any problem',
    )
    .argument('<file...>', 'log files')
    .option('--json', 'print one JSON object at the end instead of lines')
    .action((files: readonly string[], flags: { readonly json?: boolean }) => {
      const isJson = flags.json === true;
      const report = check(files, ({ file, line, column, reason }) => {
        if (!isJson) console.log(`${file}:${line}:${column} ${reason}`);
      });
      if (isJson) console.log(JSON.stringify(report));
      else {
        for (const [reason, count] of Object.entries(report.byReason)) {
          console.log(`${count} × ${reason}`);
        }
        console.log(`${report.lines} lines in ${report.files} files, ${report.bad} bad`);
      }
      process.exitCode = report.bad === 0 ? 0 : 1;
    });
}
