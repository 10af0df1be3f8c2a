/**
 * Chats as trees: a message names the one that it follows and who wrote it, a chat the end of its branch, a second checkpoint beside the first,
 * its system prompt and how it was last answered. What was there becomes one branch. Texts are indexed by runs of three characters, which
 * serves every language; the index follows the table by triggers.
 */
export const chatBranches = `
ALTER TABLE chats ADD COLUMN updated_at REAL NOT NULL DEFAULT 0;
ALTER TABLE chats ADD COLUMN system_prompt TEXT NOT NULL DEFAULT '';
ALTER TABLE chats ADD COLUMN sampling TEXT;
ALTER TABLE chats ADD COLUMN leaf_id TEXT;
ALTER TABLE chats ADD COLUMN second_checkpoint_id TEXT;
ALTER TABLE chats ADD COLUMN second_leaf_id TEXT;
ALTER TABLE messages ADD COLUMN parent_id TEXT REFERENCES messages (id);
ALTER TABLE messages ADD COLUMN checkpoint_id TEXT;
ALTER TABLE messages ADD COLUMN cut_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN context_full INTEGER NOT NULL DEFAULT 0 CHECK (context_full IN (0, 1));
CREATE INDEX messages_by_parent ON messages (parent_id);

UPDATE messages SET
  parent_id = (SELECT id FROM messages AS before WHERE before.chat_id = messages.chat_id AND before.number < messages.number ORDER BY before.number DESC LIMIT 1),
  checkpoint_id = CASE role WHEN 'model' THEN (SELECT checkpoint_id FROM chats WHERE chats.id = messages.chat_id) END;
UPDATE chats SET
  leaf_id = (SELECT id FROM messages WHERE chat_id = chats.id ORDER BY number DESC LIMIT 1),
  updated_at = coalesce((SELECT max(created_at) FROM messages WHERE chat_id = chats.id), created_at);
DROP INDEX chats_by_time;
CREATE INDEX chats_by_time ON chats (updated_at);

CREATE VIRTUAL TABLE messages_text USING fts5 (text, content = 'messages', content_rowid = 'number', tokenize = 'trigram');
INSERT INTO messages_text (rowid, text) SELECT number, text FROM messages;
CREATE TRIGGER messages_text_insert AFTER INSERT ON messages BEGIN
  INSERT INTO messages_text (rowid, text) VALUES (new.number, new.text);
END;
CREATE TRIGGER messages_text_delete AFTER DELETE ON messages BEGIN
  INSERT INTO messages_text (messages_text, rowid, text) VALUES ('delete', old.number, old.text);
END;
CREATE TRIGGER messages_text_update AFTER UPDATE OF text ON messages BEGIN
  INSERT INTO messages_text (messages_text, rowid, text) VALUES ('delete', old.number, old.text);
  INSERT INTO messages_text (rowid, text) VALUES (new.number, new.text);
END;
`
