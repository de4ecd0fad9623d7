// What attention's forward and backward share: tiles of a sequence, and what a query sees.
//
// The host cuts every sequence into tiles. A tile says where its rows are (`row`, `count`), which position of the
// sequence its first one has, and which row of the key matrix has position 0. A block has a tile and a head;
// `SHARERS` threads have a row of it together, each every `SHARERS`-th column of what is made.
#pragma once
#include "device.cuh"

constexpr int ATTENTION_THREADS = 128;

struct Tile {
  i64 row, count, position, key_row;
};

DEVICE Tile tile_at(Ptr<const i64> tiles, i64 index) {
  Tile tile = {tiles[4 * index], tiles[4 * index + 1], tiles[4 * index + 2], tiles[4 * index + 3]};
  return tile;
}

// `cols` columns of `count` rows into `to[row][column]`, rows of `width`; zeros where there is no row.
DEVICE void load_rows(Ptr<float> to, Ptr<const float> from, i64 ld, i64 first, i64 count, int rows, int cols, int width) {
  for (int e = threadIdx.x; e < rows * cols; e += ATTENTION_THREADS) {
    int i = e / cols, j = e % cols;
    to[i * width + j] = i < count ? (float)from[(first + i) * ld + j] : 0.0f;
  }
}

// Whether a query sees a key: not ahead of it, and not `window` or more behind it.
DEVICE bool sees(i64 query, i64 key, i64 window) { return key <= query && key > query - window; }
// The first position that any query of a tile sees.
DEVICE i64 first_seen(const Tile& tile, i64 window) {
  return tile.position >= window ? tile.position - window + 1 : 0;
}
// How many rows after the first key of a tile the last query lies that sees any of its keys; a tile of keys has the row
// after the sequence's last as its `key_row`.
DEVICE i64 reach_of_keys(const Tile& tile, i64 window) {
  i64 rest = tile.key_row - tile.row;
  return window < rest - tile.count + 1 ? tile.count - 1 + window : rest;
}
