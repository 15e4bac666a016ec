use super::record::QuotedColumns;
use super::*;
use crate::wire::Input;
use std::sync::Arc;

fn restyle(text: &str, style: Style) -> String {
    let mut out = Vec::new();
    // In small pieces: characters are cut.
    let mut w = Restyle::new(&mut out, style);
    text.as_bytes().chunks(3).for_each(|c| w.write_all(c).unwrap());
    w.flush().unwrap();
    String::from_utf8(out).unwrap()
}

const TEXT: &str =
    "{\"a\":[1,2.5e-7],\"b\":\"\u{e9}, \\\"q/&\\\": \u{1f600}\",\"c\":null,\"d\":{},\"e\":true}\n";

#[test]
fn json_as_python_writes_it() {
    let want = "{\"a\": [1, 2.5e-07], \"b\": \"\\u00e9, \\\"q/&\\\": \\ud83d\\ude00\", \
        \"c\": null, \"d\": {}, \"e\": true}\n";
    let style = Style::of_json(want.as_bytes());
    assert!(style.python && style.ascii && style.nulls && !style.crlf);
    assert_eq!(restyle(TEXT, style), want);
    assert_eq!(restyle(TEXT, Style::default()), TEXT);
    let crlf = want.replace('\n', "\r\n");
    assert_eq!(restyle(TEXT, Style::of_json(crlf.as_bytes())), crlf);
}

#[test]
fn json_as_pandas_and_go_write_it() {
    for (e, slash, face) in [
        ("\\u00e9", "\\/&", "\\ud83d\\ude00"),
        ("\u{e9}", "/\\u0026", "\u{1f600}"),
        ("\\u00E9", "/&", "\\uD83D\\uDE00"),
    ] {
        let want = TEXT.replace('\u{e9}', e).replace("/&", slash).replace('\u{1f600}', face);
        assert_eq!(restyle(TEXT, Style::of_json(want.as_bytes())), want);
    }
}

#[test]
fn fractions_without_exponents() {
    let want = "{\"a\":0.0000012,\"b\":2.0,\"c\":17}\n";
    let style = Style::of_json(want.as_bytes());
    assert_eq!(restyle("{\"a\":1.2e-6,\"b\":2.0,\"c\":17}\n", style), want);
}

#[test]
fn indented_json() {
    let object =
        "{\n  \"a\": [\n    1,\n    \"x\"\n  ],\n  \"b\": {},\n  \"c\": {\n    \"d\": 1\n  }\n}\n";
    let plain = "{\"a\":[1,\"x\"],\"b\":{},\"c\":{\"d\":1}}\n";
    let style = Style::of_json(object.as_bytes());
    assert_eq!(style.indent, 2);
    assert_eq!(restyle(plain, style), object);
    let list =
        "[\n    {\n        \"a\": 1,\n        \"b\": []\n    },\n    {\n        \"a\": 2\n    }\n]";
    let plain = "[\n    {\"a\":1,\"b\":[]},\n    {\"a\":2}\n]";
    let style = Style::of_json(list.as_bytes());
    assert_eq!(style.indent, 4);
    assert_eq!(restyle(plain, style), list);
    let tabs = "{\n\t\"a\": 1\n}\n";
    assert_eq!(restyle("{\"a\":1}\n", Style::of_json(tabs.as_bytes())), tabs);
}

#[test]
fn csv_styles() {
    let form = TextForm::default();
    let plain = "a,b\n\"x\ny\",1.5\n,\"\"\"\"\nword,-2\n";
    for want in [
        "a,b\r\n\"x\ny\",1.5\r\n,\"\"\"\"\r\nword,-2\r\n",
        "\"a\",\"b\"\n\"x\ny\",\"1.5\"\n\"\",\"\"\"\"\n\"word\",\"-2\"\n",
        "\"a\",\"b\"\r\n\"x\ny\",1.5\r\n\"\",\"\"\"\"\r\n\"word\",-2\r\n",
    ] {
        assert_eq!(restyle(plain, Style::of_csv(want.as_bytes(), &form)), want);
    }
    assert_eq!(Style::of_csv(plain.as_bytes(), &form), Style::default());
    // Text as Arrow writes it: also what looks like a number, but no truth values, no dates.
    let plain = "zip,open,day\n02134,true,2024-01-01\n,false,2024-01-02\n90210,,2024-01-03\n";
    let want = "\"zip\",\"open\",\"day\"\n\"02134\",true,2024-01-01\n,false,2024-01-02\n\
        \"90210\",,2024-01-03\n";
    let style = Style::of_csv(want.as_bytes(), &form);
    let columns = QuotedColumns { header: true, empty: false, bits: vec![1] };
    assert_eq!(style.quotes, Quotes::Columns(Arc::new(columns)));
    assert_eq!(restyle(plain, style), want);
    let want = want.replace("\n,", "\n\"\",");
    assert_eq!(restyle(plain, Style::of_csv(want.as_bytes(), &form)), want);
    let form = TextForm { delimiter: b';', ..form };
    let want = "\"a\";\"b,c\"\n\"1\";\"2\"\n";
    assert_eq!(restyle("a;b,c\n1;2\n", Style::of_csv(want.as_bytes(), &form)), want);
}

#[test]
fn styles_are_stored() {
    for code in 0..32 {
        assert_eq!(Style::from_old_code(code).unwrap().old_code(), Some(code));
    }
    assert!(Style::from_old_code(32).is_err());
    for style in [
        Style { slashes: true, indent: 3, ..Style::default() },
        Style { crlf: true, upper: true, html: true, ..Style::default() },
        Style { csv: true, delimiter: b'\t', quotes: Quotes::Text, ..Style::default() },
        Style {
            csv: true,
            quotes: Quotes::Columns(Arc::new(QuotedColumns {
                header: false,
                empty: true,
                bits: vec![5, 0, 128],
            })),
            ..Style::default()
        },
    ] {
        assert_eq!(style.old_code(), None);
        let mut out = Vec::new();
        style.write(&mut out);
        assert_eq!(Style::read(&mut Input(&out)).unwrap(), style);
        assert!(Style::read(&mut Input(&out[..out.len() - 1])).is_err());
    }
    assert!(Style::read(&mut Input(&[0, 17, 0, 0])).is_err());
    assert!(Style::read(&mut Input(&[0, 0, 0, 4])).is_err());
    assert!(Style::read(&mut Input(&[0, 0, 0, 3, 4, 0])).is_err());
    let long = [&[0, 0, 0, 3, 0, 0xe3, 0x09][..], &[1; 1251]].concat();
    assert!(Style::read(&mut Input(&long)).is_err());
}
