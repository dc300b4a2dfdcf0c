<?php
// SPDX-License-Identifier: MIT

declare(strict_types=1);

/**
 * Tells fastsync which files a site has written, and waits until they have
 * reached the other hosts. Needs PHP 7.4 and the redis extension.
 *
 * One object per request; it keeps its place in the deliveries stream.
 */
final class Fastsync
{
    /** The longest message in bytes that the agent reads. */
    private const MAX_MESSAGE = 8192;

    /** The longest ref in bytes: it must leave room for a path beside it. */
    private const MAX_REF = 256;

    /** Seconds after which a target that writes no heartbeat counts as stopped. */
    private const LIVE = 30;

    /** The longest single wait in Redis, in milliseconds. */
    private const BLOCK = 500;

    /** Microseconds between two looks where the client's read timeout is too short to block. */
    private const POLL = 10000;

    /** Deliveries read at a time. */
    private const PAGE = 1000;

    private Redis $redis;
    private string $channel;
    private string $keys;

    /** Where the deliveries stream ended when this object was made. */
    private string $start;

    /** @var array<string, array{from: string, paths: array<string, true>, bare: bool}> by ref */
    private array $published = [];

    private ?string $error = null;

    /**
     * @param Redis  $redis   a connected client; its prefix and serializer are not used
     * @param string $root    the root's name, fastsync's --name
     * @param string $channel fastsync's --channel
     *
     * @throws RuntimeException when Redis refuses or is away
     */
    public function __construct(Redis $redis, string $root = 'media', string $channel = 'new_files')
    {
        $this->redis = $redis;
        $this->channel = $channel;
        $this->keys = 'fastsync:{' . $root . '}:';
        $this->start = $this->position();
    }

    /**
     * Publishes paths, absolute below the root or relative to it.
     *
     * Call it when the file is closed. Names that JSON cannot carry (not UTF-8,
     * or very long) go as one bare path each, without $ref and $scope.
     *
     * @param string|string[] $paths
     * @param string|null     $ref   a word of your own to wait() for, as "article-17"
     * @param string          $scope "" (tree for a directory, else entry); "entry": just
     *                               this; "listing": a directory and what is in it, one
     *                               level; "tree": all below it
     *
     * @return int how many agents heard it; 0: none runs. The file is then found by
     *             the agent's catch-up when it starts, or by the next sweep.
     *
     * @throws InvalidArgumentException for what fastsync would refuse
     * @throws RuntimeException         when Redis refuses or is away
     */
    public function publish($paths, ?string $ref = null, string $scope = ''): int
    {
        $paths = array_values(array_unique(array_map('strval', (array) $paths)));
        if ($paths === []) {
            throw new InvalidArgumentException('fastsync: no path to publish');
        }
        if (!in_array($scope, ['', 'entry', 'listing', 'tree'], true)) {
            throw new InvalidArgumentException("fastsync: unknown scope \"$scope\": want entry, listing or tree");
        }
        $ref = $ref === '' ? null : $ref;
        if ($ref !== null && (strlen($ref) > self::MAX_REF || self::json($ref) === null)) {
            throw new InvalidArgumentException('fastsync: the ref must be UTF-8 of at most ' . self::MAX_REF . ' bytes');
        }
        [$messages, $bare] = $this->messages($paths, $ref, $scope);
        if ($ref !== null) {
            $this->remember($ref, $paths, $bare !== []);
        }
        $heard = PHP_INT_MAX;
        foreach (array_merge($messages, $bare) as $message) {
            $heard = min($heard, (int) $this->call('PUBLISH', $this->channel, $message));
        }

        return $heard;
    }

    /**
     * Waits until every path published under $ref has reached every target.
     *
     * What this object published for $ref is known by number of paths; for a
     * ref that another process published, one path at each target is enough.
     * Give a path the same spelling each time: the paths are counted.
     *
     * @param string   $ref
     * @param string[] $targets names of targets; none: all whose subscriber runs now
     * @param float    $timeout in seconds
     *
     * @return bool true: all is there. false: a target recorded a path as failed,
     *              time is up, or no target runs; see lastError().
     *
     * @throws RuntimeException when Redis refuses or is away
     */
    public function wait(string $ref, array $targets = [], float $timeout = 10): bool
    {
        $this->error = null;
        $known = $this->published[$ref] ?? null;
        if ($known !== null && $known['bare']) {
            return $this->fail("a path of \"$ref\" could only be published without its ref");
        }
        $end = microtime(true) + $timeout;
        $targets = $targets === [] ? $this->liveTargets() : array_values(array_unique($targets));
        if ($targets === []) {
            return $this->fail('no target is running');
        }
        $want = $known === null ? 1 : count($known['paths']);
        $from = $known === null ? $this->start : $known['from'];
        $there = array_fill_keys($targets, []);
        do {
            $left = $end - microtime(true);
            foreach ($this->deliveries($from, $left) as $delivery) {
                $target = $delivery['target'] ?? '';
                if (($delivery['ref'] ?? '') !== $ref || !isset($there[$target])) {
                    continue;
                }
                if (($delivery['ok'] ?? '') !== '1') {
                    return $this->fail("$target: " . ($delivery['path'] ?? '') . ': ' . ($delivery['error'] ?? 'failed'));
                }
                $there[$target][$delivery['path']] = true;
            }
            $missing = array_filter($there, static fn (array $paths): bool => count($paths) < $want);
            if ($missing === []) {
                return true;
            }
        } while ($left > 0);

        return $this->fail("not within $timeout s at: " . implode(', ', array_keys($missing)));
    }

    /** Why the last wait() returned false; null after true. */
    public function lastError(): ?string
    {
        return $this->error;
    }

    /**
     * @param string[] $paths
     *
     * @return array{0: string[], 1: string[]} JSON messages, and bare paths
     */
    private function messages(array $paths, ?string $ref, string $scope): array
    {
        $tail = '],"ref":' . self::json((string) $ref) . ',"scope":' . self::json($scope) . '}';
        $messages = $bare = [];
        $list = '';
        foreach ($paths as $path) {
            if ($path === '' || strlen($path) > 4096 || strpos($path, "\0") !== false) {
                throw new InvalidArgumentException('fastsync: a path must have 1 to 4096 bytes and no NUL');
            }
            $item = self::json($path);
            $room = self::MAX_MESSAGE - strlen('{"paths":[' . $tail);
            if ($item === null || strlen($item) > $room) {
                if ($path[0] === '{') {
                    throw new InvalidArgumentException('fastsync: give the absolute path of a name that starts with "{" and is not UTF-8');
                }
                $bare[] = $path;
                continue;
            }
            if ($list !== '' && strlen($list) + 1 + strlen($item) > $room) {
                $messages[] = '{"paths":[' . $list . $tail;
                $list = '';
            }
            $list .= ($list === '' ? '' : ',') . $item;
        }
        if ($list !== '') {
            $messages[] = '{"paths":[' . $list . $tail;
        }

        return [$messages, $bare];
    }

    /** @param string[] $paths */
    private function remember(string $ref, array $paths, bool $bare): void
    {
        // The place is taken before the first PUBLISH: a delivery may be faster than this script.
        $known = $this->published[$ref] ?? ['from' => $this->position(), 'paths' => [], 'bare' => false];
        foreach ($paths as $path) {
            $known['paths'][$path] = true;
        }
        $known['bare'] = $known['bare'] || $bare;
        $this->published[$ref] = $known;
    }

    /** @return string[] names of the targets whose subscriber runs */
    private function liveTargets(): array
    {
        $live = [];
        $flat = (array) $this->call('HGETALL', $this->keys . 'targets');
        for ($i = 0; $i + 1 < count($flat); $i += 2) {
            $state = json_decode($flat[$i + 1], true);
            $beat = strtotime((string) ($state['heartbeat'] ?? ''));
            if ($beat !== false && time() - $beat <= self::LIVE) {
                $live[] = (string) $flat[$i];
            }
        }

        return $live;
    }

    /**
     * Reads one page after $from, which it moves on, waiting at most $left seconds for it.
     *
     * @return array<int, array<string, string>>
     */
    private function deliveries(string &$from, float $left): array
    {
        $words = ['XREAD', 'COUNT', (string) self::PAGE];
        $timeout = (float) $this->redis->getReadTimeout();
        if ($timeout <= 0 || $timeout >= 2 * self::BLOCK / 1000) {
            // BLOCK 0 would wait for ever.
            array_push($words, 'BLOCK', (string) max(1, (int) min(self::BLOCK, $left * 1000)));
        } elseif ($left > 0) {
            // Redis may end a BLOCK 0.1 s late; a client this impatient would hang up on it.
            usleep(self::POLL);
        }
        array_push($words, 'STREAMS', $this->keys . 'deliveries', $from);
        $reply = $this->call(...$words);
        $found = [];
        foreach ((array) ($reply[0][1] ?? []) as [$id, $flat]) {
            $from = $id;
            $fields = [];
            for ($i = 0; $i + 1 < count($flat); $i += 2) {
                $fields[$flat[$i]] = $flat[$i + 1];
            }
            $found[] = $fields;
        }

        return $found;
    }

    /** The id of the last delivery. */
    private function position(): string
    {
        $last = $this->call('XREVRANGE', $this->keys . 'deliveries', '+', '-', 'COUNT', '1');

        return $last[0][0] ?? '0-0';
    }

    /**
     * Raw commands, since a client's prefix and serializer must not touch fastsync's keys.
     *
     * @return mixed
     */
    private function call(string ...$words)
    {
        try {
            $this->redis->clearLastError();
            $reply = $this->redis->rawCommand(...$words);
            $error = $this->redis->getLastError();
        } catch (RedisException $e) {
            throw new RuntimeException("fastsync: Redis failed at $words[0]: " . $e->getMessage(), 0, $e);
        }
        if ($error !== null) {
            throw new RuntimeException("fastsync: Redis refused $words[0]: $error");
        }

        return $reply;
    }

    private function fail(string $why): bool
    {
        $this->error = $why;

        return false;
    }

    /** The text as JSON, null if it is not UTF-8. */
    private static function json(string $text): ?string
    {
        $json = json_encode($text, JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE);

        return $json === false ? null : $json;
    }
}
