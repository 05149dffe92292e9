// Command interop checks a published log of Datakluis with golang.org/x/mod/sumdb, the libraries
// behind Go's own checksum database, which share no code with it.
//
// Usage: interop DIR VKEY
//
// It reads, in DIR, what the test has put there:
//
//	published/      the log as `kluis ledger export` writes it, of N leaves
//	checkpoints/n   the signed checkpoint of each size n from 1 to N
//	ours            proofs by Datakluis: of every leaf in every size, and of every pair of sizes
//
// and writes the proofs that tlog makes of the same statements to DIR/theirs, in the same format:
// kind (1 byte, 0 a record and 1 a tree), tree size t and number n (2 bytes each, big-endian; n is
// the leaf, or the size of the older tree), number of hashes (1 byte), hashes of 32 bytes.
//
// The first thing that does not hold ends it with exit status 1; counts go to standard output.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	record = 0
	tree   = 1
)

type counts struct {
	Checkpoints    int `json:"checkpoints"`
	PassedOver     int `json:"signatures_passed_over"`
	Entries        int `json:"entries"`
	TilesRead      int `json:"tiles_read"`
	OurRecords     int `json:"our_records"`
	OurTrees       int `json:"our_trees"`
	TheirRecords   int `json:"their_records"`
	TheirTrees     int `json:"their_trees"`
	ThroughTiles   int `json:"records_through_tiles"`
	TreesFromTiles int `json:"trees_through_tiles"`
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: interop DIR VKEY")
		os.Exit(2)
	}
	var done counts
	if err := run(os.Args[1], os.Args[2], &done); err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(done)
}

func run(dir, vkey string, done *counts) error {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	published := filepath.Join(dir, "published")
	data, err := os.ReadFile(filepath.Join(published, "checkpoint"))
	if err != nil {
		return err
	}
	newest, err := openCheckpoint(data, verifier, done)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	trees, err := openAll(dir, newest, verifier, done)
	if err != nil {
		return err
	}
	leaves, err := readEntries(published, newest.N)
	if err != nil {
		return err
	}
	done.Entries = len(leaves)
	tiles := &tileFolder{dir: published}
	if err := checkThroughTiles(trees, leaves, tiles, done); err != nil {
		return err
	}
	done.TilesRead = tiles.read
	if err := checkOurs(filepath.Join(dir, "ours"), trees, leaves, done); err != nil {
		return err
	}
	return writeTheirs(filepath.Join(dir, "theirs"), trees, leaves, tiles, done)
}

// openCheckpoint opens a note that the key must have signed and reads the tree in it. tlog.ParseTree
// is for Go's own origin line; the rest of the text is the same.
func openCheckpoint(data []byte, verifier note.Verifier, done *counts) (tlog.Tree, error) {
	n, err := note.Open(data, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	origin, rest, ok := strings.Cut(n.Text, "\n")
	if !ok || origin != verifier.Name() {
		return tlog.Tree{}, fmt.Errorf("origin %q is not the key's name", origin)
	}
	done.Checkpoints++
	done.PassedOver += len(n.UnverifiedSigs)
	return tlog.ParseTree([]byte("go.sum database tree\n" + rest))
}

func openAll(dir string, newest tlog.Tree, verifier note.Verifier, done *counts) ([]tlog.Tree, error) {
	trees := make([]tlog.Tree, newest.N+1)
	for n := int64(1); n <= newest.N; n++ {
		data, err := os.ReadFile(filepath.Join(dir, "checkpoints", strconv.FormatInt(n, 10)))
		if err != nil {
			return nil, err
		}
		if trees[n], err = openCheckpoint(data, verifier, done); err != nil {
			return nil, fmt.Errorf("checkpoint %d: %w", n, err)
		}
		if trees[n].N != n {
			return nil, fmt.Errorf("checkpoint %d is of size %d", n, trees[n].N)
		}
	}
	if trees[newest.N] != newest {
		return nil, errors.New("two roots of one size are signed")
	}
	return trees, nil
}

// readEntries returns the leaf hashes of the entries in the bundles (C2SP tlog-tiles).
func readEntries(dir string, size int64) ([]tlog.Hash, error) {
	var leaves []tlog.Hash
	for n := int64(0); n*256 < size; n++ {
		width := min(256, size-n*256)
		data, err := os.ReadFile(filepath.Join(dir, c2spPath("entries", n, int(width))))
		if err != nil {
			return nil, err
		}
		for ; width > 0; width-- {
			if len(data) < 2 {
				return nil, fmt.Errorf("bundle %d breaks off", n)
			}
			end := 2 + int(binary.BigEndian.Uint16(data))
			if len(data) < end {
				return nil, fmt.Errorf("bundle %d breaks off", n)
			}
			leaves = append(leaves, tlog.RecordHash(data[2:end]))
			data = data[end:]
		}
		if len(data) != 0 {
			return nil, fmt.Errorf("bundle %d goes on", n)
		}
	}
	return leaves, nil
}

// tileFolder reads tiles of height 8 from the folder. x/mod names a tile tile/8/<level>/…, C2SP
// leaves the height out; the rest of the path is the same. Where the folder has a wider tile than a
// smaller tree needs, its beginning is that tree's.
type tileFolder struct {
	dir  string
	read int
}

func (f *tileFolder) Height() int { return 8 }

func (f *tileFolder) SaveTiles([]tlog.Tile, [][]byte) {}

func (f *tileFolder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, t := range tiles {
		data, err := f.readTile(t)
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	f.read += len(all)
	return all, nil
}

func (f *tileFolder) readTile(t tlog.Tile) ([]byte, error) {
	level := strconv.Itoa(t.L)
	exact := filepath.Join(f.dir, c2spPath(level, t.N, t.W))
	if want := strings.Replace(t.Path(), "tile/8/", "tile/", 1); !strings.HasSuffix(exact, "/"+want) {
		return nil, fmt.Errorf("%s is not %s", exact, want)
	}
	data, err := os.ReadFile(exact)
	for w := t.W + 1; errors.Is(err, fs.ErrNotExist) && w <= 256; w++ {
		data, err = os.ReadFile(filepath.Join(f.dir, c2spPath(level, t.N, w)))
	}
	if err != nil {
		return nil, err
	}
	if len(data) < t.W*tlog.HashSize {
		return nil, fmt.Errorf("%s is too short", exact)
	}
	return data[:t.W*tlog.HashSize], nil
}

// c2spPath writes a path by the letter of C2SP tlog-tiles.
func c2spPath(kind string, n int64, width int) string {
	path := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		path = fmt.Sprintf("x%03d/%s", n%1000, path)
	}
	if width < 256 {
		path = fmt.Sprintf("%s.p/%d", path, width)
	}
	return "tile/" + kind + "/" + path
}

// checkThroughTiles proves every leaf, and every older tree, in the newest tree out of tiles that
// tlog.TileHashReader holds against its signed root.
func checkThroughTiles(trees []tlog.Tree, leaves []tlog.Hash, tiles *tileFolder, done *counts) error {
	newest := trees[len(trees)-1]
	reader := tlog.TileHashReader(newest, tiles)
	for n, leaf := range leaves {
		proof, err := tlog.ProveRecord(newest.N, int64(n), reader)
		if err != nil {
			return fmt.Errorf("leaf %d: %w", n, err)
		}
		if err := tlog.CheckRecord(proof, newest.N, newest.Hash, int64(n), leaf); err != nil {
			return fmt.Errorf("leaf %d: %w", n, err)
		}
		done.ThroughTiles++
	}
	for n := int64(1); n <= newest.N; n++ {
		proof, err := tlog.ProveTree(newest.N, n, reader)
		if err != nil {
			return fmt.Errorf("tree %d: %w", n, err)
		}
		if err := tlog.CheckTree(proof, newest.N, newest.Hash, n, trees[n].Hash); err != nil {
			return fmt.Errorf("tree %d: %w", n, err)
		}
		done.TreesFromTiles++
	}
	return nil
}

func checkOurs(path string, trees []tlog.Tree, leaves []tlog.Hash, done *counts) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for r := bytes.NewReader(data); r.Len() > 0; {
		kind, t, n, hashes, err := readProof(r)
		if err != nil {
			return err
		}
		if kind == record {
			err = tlog.CheckRecord(hashes, t, trees[t].Hash, n, leaves[n])
			done.OurRecords++
		} else {
			err = tlog.CheckTree(hashes, t, trees[t].Hash, n, trees[n].Hash)
			done.OurTrees++
		}
		if err != nil {
			return fmt.Errorf("our proof %d of %d, kind %d: %w", n, t, kind, err)
		}
	}
	return nil
}

func readProof(r io.Reader) (kind byte, t, n int64, hashes []tlog.Hash, err error) {
	var head [6]byte
	if _, err = io.ReadFull(r, head[:]); err != nil {
		return
	}
	kind = head[0]
	t, n = int64(binary.BigEndian.Uint16(head[1:])), int64(binary.BigEndian.Uint16(head[3:]))
	hashes = make([]tlog.Hash, head[5])
	for i := range hashes {
		if _, err = io.ReadFull(r, hashes[i][:]); err != nil {
			return
		}
	}
	return
}

// writeTheirs lets tlog prove every leaf in every tree and every pair of trees. The hashes come
// from our level-0 tiles, but how they are joined is tlog's: it keeps a store of its own.
func writeTheirs(
	path string, trees []tlog.Tree, leaves []tlog.Hash, tiles *tileFolder, done *counts,
) error {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		found := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			found[i] = stored[x]
		}
		return found, nil
	})
	for n := range leaves {
		tile, err := tiles.readTile(tlog.Tile{H: 8, L: 0, N: int64(n / 256), W: n%256 + 1})
		if err != nil {
			return err
		}
		leaf := tlog.Hash(tile[n%256*tlog.HashSize:])
		more, err := tlog.StoredHashesForRecordHash(int64(n), leaf, reader)
		if err != nil {
			return err
		}
		stored = append(stored, more...)
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	w := bufio.NewWriter(file)
	for t := int64(1); t < int64(len(trees)); t++ {
		if root, err := tlog.TreeHash(t, reader); err != nil || root != trees[t].Hash {
			return fmt.Errorf("the root of %d leaves is %v, not what is signed (%v)", t, root, err)
		}
		for n := int64(0); n < t; n++ {
			proof, err := tlog.ProveRecord(t, n, reader)
			if err != nil {
				return err
			}
			writeProof(w, record, t, n, proof)
			done.TheirRecords++
		}
		for n := int64(1); n <= t; n++ {
			proof, err := tlog.ProveTree(t, n, reader)
			if err != nil {
				return err
			}
			writeProof(w, tree, t, n, proof)
			done.TheirTrees++
		}
	}
	return w.Flush()
}

func writeProof(w io.Writer, kind byte, t, n int64, hashes []tlog.Hash) {
	head := []byte{kind, byte(t >> 8), byte(t), byte(n >> 8), byte(n), byte(len(hashes))}
	w.Write(head)
	for _, h := range hashes {
		w.Write(h[:])
	}
}
