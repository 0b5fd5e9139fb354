import { type SurveyReport, type SurveyTask, survey } from '../src/lines/survey.ts';

/** A worker that looks through parts of log files. */
export default function look(task: SurveyTask): Promise<SurveyReport> {
  return survey(task);
}
