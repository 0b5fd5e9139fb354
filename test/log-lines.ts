/** Log lines for tests of ship, check and convert, as the SDKs write them. */

/** A uuid that tells a number. */
export function uuidOf(index: number): string {
  return `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`;
}

/** Lines with the numbers `[from, to)` in their uuids and properties. */
export function linesOf(from: number, to: number): string {
  let text = '';
  for (let index = from; index < to; index += 1) {
    text += `{"#type":"track","#time":"2026-11-24 08:00:00.000","#account_id":"u","#event_name":"e","#uuid":"${uuidOf(index)}","properties":{"index":${index}}}\n`;
  }
  return text;
}

/** One of each kind, as LoggingConsumer of the official Python SDK writes them: `json.dumps` with blanks and escapes. */
export function pythonLines(from: number, to: number): string {
  const lib = '"#lib": "tga_python_sdk", "#lib_version": "1.8.2"';
  let text = '';
  for (let index = from; index < to; index += 1) {
    const id = `"#uuid": "${uuidOf(index)}", "#distinct_id": "device-${index}", "#account_id": "player"`;
    const head = `"#time": "2026-11-24 13:05:09.007", ${id}`;
    const lines = [
      `{"#type": "track", "#event_name": "Payment", ${head}, "#ip": "10.0.0.1", "properties": {"#app_version": "1.0", "name": "\\u4e91", "price": 6.0, "items": ["a", "b"], "first": true, ${lib}}}`,
      `{"#type": "user_set", ${head}, "properties": {"vip": 3, "note": "a \\"quoted\\" word"}}`,
      `{"#type": "user_add", ${head}, "properties": {"gold": -5}}`,
      `{"#type": "track_update", "#event_name": "Order", "#event_id": "o-${index}", ${head}, "properties": {"status": 2, ${lib}}}`,
      `{"#type": "user_unset", ${head}, "properties": {"old": 0}}`,
    ];
    text += `${lines[index % lines.length]}\n`;
  }
  return text;
}

/** As the Java SDK writes them: the fields in its order, no blanks. */
export function javaLines(from: number, to: number): string {
  let text = '';
  for (let index = from; index < to; index += 1) {
    const ids = `"#distinct_id":"ABCDEF","#account_id":"player_${index % 7}","#uuid":"${uuidOf(index)}"`;
    const time = '"#time":"2026-11-24 13:05:09.123"';
    const lines = [
      `{${ids},"#type":"track",${time},"#ip":"192.168.1.1","#event_name":"test_event","#app_id":"A","properties":{"#lib":"tga_java_sdk","#lib_version":"2.1.1","channel":"te","age":1,"is_success":true,"birthday":"2026-11-24 13:05:09.123","object":{"key":"value"},"object_arr":[{"key":"value"}],"arr":["test_value"]}}`,
      `{${ids},"#type":"user_setOnce",${time},"properties":{"register":"2020-01-01 00:00:00.000"}}`,
      `{${ids},"#type":"user_append",${time},"properties":{"arr1":["str1","str2"]}}`,
      `{${ids},"#type":"track","#first_check_id":"dev-${index}",${time},"#event_name":"first","properties":{"#lib":"tga_java_sdk"}}`,
      `{${ids},"#type":"user_del",${time},"properties":{}}`,
    ];
    text += `${lines[index % lines.length]}\n`;
  }
  return text;
}
