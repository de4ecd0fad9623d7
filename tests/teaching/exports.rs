//! Chats as WhatsApp, Telegram, Discord, ChatGPT and Claude export them, through the real program (S3.1 to S3.4): who
//! speaks, what is left out, whose names are replaced.

use super::lines;
use peft_tests::home::Home;
use serde_json::{Value, json};

/// An archive of stored files, as a phone packs a chat.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut all, mut list) = (Vec::new(), Vec::new());
    for (name, bytes) in files {
        let mut crc = !0_u32;
        for byte in *bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
            }
        }
        let (length, at) = (u32::try_from(bytes.len()).expect("short"), u32::try_from(all.len()).expect("short"));
        let mut about = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        about.extend([!crc, length, length].iter().flat_map(|number| number.to_le_bytes()));
        about.extend([u16::try_from(name.len()).expect("short"), 0].iter().flat_map(|number| number.to_le_bytes()));
        all.extend(b"PK\x03\x04");
        all.extend(&about);
        all.extend(name.as_bytes());
        all.extend(*bytes);
        list.extend(b"PK\x01\x02\x14\x00");
        list.extend(&about);
        list.extend([0; 10]);
        list.extend(at.to_le_bytes());
        list.extend(name.as_bytes());
    }
    let (start, length) = (u32::try_from(all.len()).expect("short"), u32::try_from(list.len()).expect("short"));
    let count = u16::try_from(files.len()).expect("few").to_le_bytes();
    all.extend(&list);
    all.extend(b"PK\x05\x06\0\0\0\0");
    all.extend([count, count].concat());
    all.extend([length.to_le_bytes(), start.to_le_bytes()].concat());
    all.extend([0, 0]);
    all
}

const IPHONE: &str = "[03/11/2024, 18:02:11] Allotment Crew: \u{200e}Messages and calls are end-to-end encrypted.\n\
    \u{200e}[03/11/2024, 18:02:15] Allotment Crew: \u{200e}Priya Natarajan added you\n\
    [03/11/2024, 18:03:40] Priya Natarajan: Who has the shed key?\n\
    [03/11/2024, 18:04:02] Tom Okafor: Hal has it. My number is +44 7700 900123\n\
    [03/11/2024, 18:05:33] Hal Whitmore: It is on the hook behind the water butt.\nWhere it always is.\n\
    [03/11/2024, 18:06:10] ~\u{a0}marta: \u{200e}sticker omitted\n\
    [03/11/2024, 18:06:12] ~\u{a0}marta: thanks @\u{2068}Hal Whitmore\u{2069}, said PRIYA and tom\n\
    \u{200e}[03/11/2024, 18:07:00] Priya Natarajan: \u{200e}image omitted\n\
    [03/11/2024, 18:08:00] Hal Whitmore: \u{200e}You deleted this message.\n\
    [03/11/2024, 18:08:20] Hal Whitmore: You are welcome, Marta. \u{200e}<This message was edited>";
const ANDROID: &str = "14.02.24, 19:01 - Nachrichten und Anrufe sind Ende-zu-Ende-verschlüsselt. Tippe, um mehr zu erfahren.\n\
    14.02.24, 19:02 - Jürgen Brandt: Hal, kommst du am Wochenende?\n\
    14.02.24, 19:10 - Hal Whitmore: Samstag ja, Sonntag bin ich im Garten.\n\
    14.02.24, 19:11 - Jürgen Brandt: IMG-20240214-WA0003.jpg (Datei angehängt)\nSchau mal\n\
    14.02.24, 19:12 - Hal Whitmore: <Medien ausgeschlossen>\n14.02.24, 19:13 - Hal Whitmore: Schöner Apfelbaum!\n\
    14.02.24, 19:14 - Jürgen Brandt: Diese Nachricht wurde gelöscht.\n\
    14.02.24, 19:15 - Jürgen Brandt: Meine Adresse ist juergen.brandt@example.de\n\
    14.02.24, 19:20 - Hal Whitmore: Danke Jürgen, ich schreibe dir. <Diese Nachricht wurde bearbeitet.>";

fn telegram() -> Value {
    let said = |id: u32, from: Value, text: Value| {
        json!({"id": id, "type": "message", "date": format!("2024-05-01T10:{id:02}:00"),
            "date_unixtime": (1_714_557_600 + 60 * id).to_string(), "from": from, "from_id": "user5", "text": text,
            "text_entities": []})
    };
    let mut forwarded = said(4, json!("Hal Whitmore"), json!("A long article."));
    forwarded["forwarded_from"] = json!(null);
    json!({"about": "Here is the data", "chats": {"list": [
        {"name": "Lena Fischer", "type": "personal_chat", "messages": [
            {"id": 0, "type": "service", "date": "2024-05-01T10:00:00", "actor": "Lena Fischer", "action": "phone_call", "text": ""},
            said(1, json!("Lena Fischer"), json!("Which compost for tomatoes?")),
            said(2, json!("Lena Fischer"), json!("")),
            said(3, json!("Hal Whitmore"), json!(["The one ", {"type": "bold", "text": "two years"}, " old."])), forwarded]},
        {"name": "BotFather", "type": "bot_chat", "messages": [
            said(1, json!("BotFather"), json!("I can help.")), said(2, json!("Hal Whitmore"), json!("/newbot"))]},
        {"name": null, "type": "personal_chat", "messages": [
            said(1, json!(null), json!("Selling the bench?")), said(2, json!("Hal Whitmore"), json!("Sold it in March."))]},
    ]}})
}

fn discord() -> Value {
    let said = |minute: u32, name: &str, text: &str, kind: &str, is_bot: bool| {
        json!({"id": "1", "type": kind, "timestamp": format!("2024-06-01T12:{minute:02}:00.123+02:00"), "content": text,
            "author": {"id": "1", "name": name, "nickname": name, "isBot": is_bot}, "attachments": [], "mentions": []})
    };
    json!({"guild": {"name": "Bike shed"}, "channel": {"type": "GuildTextChat", "name": "repairs"}, "messages": [
        said(0, "carl-bot", "Welcome!", "Default", true), said(1, "Salome", "", "GuildMemberJoin", false),
        said(2, "Salome", "how do i true a wheel?", "Default", false),
        said(3, "Hal Whitmore", "Quarter turns, Salome.", "Reply", false)], "messageCount": 4})
}

fn chatgpt() -> Value {
    let node = |parent: &str, role: &str, kind: &str, text: &str, is_hidden: bool| {
        json!({"parent": parent, "children": [], "message": {"author": {"role": role}, "recipient": "all",
            "content": {"content_type": kind, "parts": [text]}, "metadata": {"is_visually_hidden_from_conversation": is_hidden}}})
    };
    json!([{"title": "Garlic", "current_node": "answer", "mapping": {
        "root": {"message": null, "parent": null, "children": ["hidden"]},
        "hidden": node("root", "user", "text", "The user is Hal.", true),
        "question": node("hidden", "user", "text", "How deep do I plant garlic?", false),
        "other": node("question", "assistant", "text", "Ten feet.", false),
        "thought": node("question", "assistant", "thoughts", "Hmm.", false),
        "answer": node("thought", "assistant", "text", "Three centimetres【3†source】.", false)}}])
}

fn claude() -> Value {
    let said = |id: &str, parent: &str, sender: &str, parts: Value| json!({"uuid": id, "parent_message_uuid": parent, "sender": sender, "text": "", "content": parts, "attachments": []});
    let text = |text: &str| json!({"type": "text", "text": text, "citations": []});
    json!([{"uuid": "1", "name": "Bees", "chat_messages": [
        said("1", "00000000-0000-4000-8000-000000000000", "human", json!([text("When do I splt a hive?")])),
        said("2", "1", "assistant", json!([text("Pardon?")])),
        said("3", "00000000-0000-4000-8000-000000000000", "human", json!([text("When do I split a hive?")])),
        said("4", "3", "assistant", json!([{"type": "thinking", "thinking": "Well."}, {"type": "tool_use", "input": {}},
            text("Late in spring.")]))]}])
}

#[test]
fn exports_of_five_services_become_conversations_without_other_peoples_names_s3_1_s3_3() {
    let home = Home::new();
    let folder = home.path("exports");
    std::fs::create_dir(&folder).expect("created");
    let chat = archive(&[("_chat.txt", IPHONE.as_bytes()), ("00000007-PHOTO.jpg", &[0xFF, 0xD8, 0xFF])]);
    home.write("exports/WhatsApp Chat - Allotment Crew.zip", chat);
    // As some editors keep it.
    let wide: Vec<u8> = [0xFF, 0xFE].into_iter().chain(ANDROID.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    home.write("exports/WhatsApp-Chat mit Jürgen Brandt.txt", wide);
    for (name, document) in [
        ("result.json", telegram()),
        ("Bike shed - repairs.json", discord()),
        ("conversations.json", chatgpt()),
        ("claude.json", claude()),
        (
            "projects.json",
            json!([{"name": "Garden", "prompt_template": "", "docs": [{"content": "Nobody said this."}]}]),
        ),
    ] {
        home.write(&format!("exports/{name}"), document.to_string());
    }
    home.write("exports/broken.json", "{\"messages\": [");
    home.write("exports/picture.txt", [0, 1, 2, 0, 255, 254, 0, 7]);
    let personality = home.write("me.txt", "You are Hal Whitmore, a gardener.");
    let out = home.path("hal.jsonl");
    let fixed = ["data", "persona", "--memories", &folder, "--personality", &personality, "--out", &out];
    let wishes = ["--me", "hal whitmore", "--hide-names", "--redact", "--deduplicate", "--validation-split", "0.3"];
    let report = home.json(&[&fixed[..], &wishes].concat());
    let passed = report["passed"].to_string();
    for left in ["broken.json", "picture.txt", "projects.json"] {
        assert!(passed.contains(left), "{left}: {passed}");
    }
    let held = report["validation"].as_str().expect("some are held out");
    let (trained, held) = (lines(&out), lines(held));
    assert_eq!((trained.len() + held.len(), &report["me"]), (7, &json!("Hal Whitmore")), "{trained:?}");
    assert!(held.len() >= 2 && trained.iter().all(|row| !held.contains(row)));
    let mut said = Vec::new();
    for row in trained.iter().chain(&held) {
        let turns = row["messages"].as_array().expect("ChatML");
        let roles: Vec<&str> = turns.iter().filter_map(|turn| turn["role"].as_str()).collect();
        assert!(roles[0] == "system" && roles.len() % 2 == 1, "{roles:?}");
        assert!(roles[1..].chunks(2).all(|pair| pair == ["user", "assistant"]), "{roles:?}");
        said.extend(turns[1..].iter().filter_map(|turn| turn["content"].as_str().map(str::to_owned)));
    }
    said.sort();
    let wanted = [
        "How deep do I plant garlic?",
        "It is on the hook behind the water butt.\nWhere it always is.",
        "Late in spring.",
        "Samstag ja, Sonntag bin ich im Garten.",
        "Schau mal",
        "Schöner Apfelbaum!",
        "Sold it in March.",
        "The one two years old.",
        "Three centimetres.",
        "When do I split a hive?",
        "Which compost for tomatoes?",
        "how do i true a wheel?",
    ];
    for text in wanted {
        assert!(said.iter().any(|line| line == text), "`{text}` is missing: {said:#?}");
    }
    let all = said.join("\n");
    let others = [
        "Priya",
        "PRIYA",
        "Natarajan",
        "Okafor",
        "Tom",
        "tom,",
        "marta",
        "Marta",
        "Jürgen",
        "brandt",
        "Lena",
        "Salome",
    ];
    let numbers = ["7700", "example.de"];
    let no_text = [
        "omitted",
        "weggelassen",
        "ausgeschlossen",
        "edited",
        "bearbeitet",
        "deleted",
        "gelöscht",
        "angehängt",
        "encrypted",
        "verschlüsselt",
        "added you",
        "newbot",
        "article",
        "Ten feet",
        "Hmm",
        "source",
        "The user is",
        "Pardon",
        "Welcome!",
        "Nobody said",
    ];
    for word in others.iter().chain(&numbers).chain(&no_text) {
        assert!(!all.contains(word), "`{word}` is in {all}");
    }
}
