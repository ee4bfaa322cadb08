"""What drafts are tried on: 50 requests in five families, short enough for a small model on a slow machine.

quote   repeat a text, whole or with little changed
edit    a file of code with a small change, printed whole
maths   step-by-step answers
code    new code with an explanation
prose   free text, where nothing need repeat itself
"""

TEXT_LETTER = """Dear Mr Harrison,
Thank you for your letter of 14 March. We have looked into the delay of your order 4471-B and found that the parcel left our warehouse in Leeds on 2 March, but was returned to us because the address label was damaged. We sent it again this morning, and you should receive it before Friday. We are sorry for the trouble and have credited 12 pounds to your account.
Yours sincerely,
Margaret Collins
Customer Service, Northern Book Supply"""

TEXT_STORY = """Anna walked down to the harbour before sunrise. The boats were still tied to the pier, and only old Peter was awake, mending a net under the yellow lamp. "You are early," he said without looking up. Anna sat down on an empty crate and watched the water. "I could not sleep," she said. "Today is the day my brother comes home." Peter nodded and pulled the thread tight. The first gulls began to cry over the breakwater."""

TEXT_LIST = """1. Switch off the machine and unplug it from the wall.
2. Wait ten minutes until the boiler has cooled down.
3. Remove the water tank and rinse it with clear water.
4. Fill the tank with one litre of water and one bag of descaler.
5. Put the tank back, place a large bowl under the nozzle and switch the machine on.
6. Press the steam button for thirty seconds, then let the machine rest for five minutes.
7. Repeat step 6 until the tank is empty.
8. Rinse the tank twice and run one litre of clear water through the machine."""

TEXT_TABLE = """name,department,city,salary
Ivy Chen,Research,Taipei,71200
Omar Haddad,Sales,Cairo,48900
Lena Vogel,Support,Hamburg,52300
Tom Baker,Research,Bristol,66100
Sofia Rossi,Legal,Milan,80500
Raj Patel,Sales,Mumbai,50750
Nora Lind,Support,Malmo,49900"""

TEXT_LAW = """Article 5. The tenant shall keep the premises clean and in good repair. Article 6. The tenant shall not sublet the premises or any part of them without the written consent of the landlord. Article 7. The landlord may enter the premises on two days' notice in order to inspect them or to carry out repairs. Article 8. The rent shall be paid on the first day of each month. If the rent is more than ten days late, the landlord may charge a late fee of five per cent."""

CODE_STACK = """class Stack:
    def __init__(self):
        self.items = []

    def push(self, item):
        self.items.append(item)

    def pop(self):
        if not self.items:
            raise IndexError("pop from an empty stack")
        return self.items.pop()

    def peek(self):
        if not self.items:
            raise IndexError("peek at an empty stack")
        return self.items[-1]

    def __len__(self):
        return len(self.items)"""

CODE_WORDS = """import sys
from collections import Counter


def read_words(path):
    with open(path, encoding="utf-8") as f:
        for line in f:
            for word in line.split():
                yield word.strip(".,;:!?").lower()


def most_common(path, n):
    counts = Counter(read_words(path))
    return counts.most_common(n)


if __name__ == "__main__":
    for word, count in most_common(sys.argv[1], 10):
        print(f"{count:6d} {word}")"""

CODE_GRADES = """def average(values):
    total = 0
    for value in values:
        total += value
    return total / len(values)


def grade(score):
    if score >= 90:
        return "A"
    if score >= 80:
        return "B"
    if score >= 70:
        return "C"
    return "F"


def report(students):
    for name, scores in students.items():
        mean = average(scores)
        print(name, mean, grade(mean))"""

CODE_JS = """function formatPrice(cents, currency) {
  const amount = (cents / 100).toFixed(2);
  if (currency === "EUR") {
    return amount + " EUR";
  }
  return "$" + amount;
}

function cartTotal(items) {
  let total = 0;
  for (const item of items) {
    total += item.price * item.quantity;
  }
  return total;
}

function renderCart(items, currency) {
  const lines = items.map((item) => item.name + ": " + formatPrice(item.price, currency));
  lines.push("Total: " + formatPrice(cartTotal(items), currency));
  return lines.join("\\n");
}"""

CODE_C = """#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct node {
    char *key;
    int value;
    struct node *next;
};

struct node *insert(struct node *head, const char *key, int value) {
    struct node *n = malloc(sizeof *n);
    n->key = strdup(key);
    n->value = value;
    n->next = head;
    return n;
}

int find(struct node *head, const char *key) {
    for (struct node *n = head; n != NULL; n = n->next) {
        if (strcmp(n->key, key) == 0) {
            return n->value;
        }
    }
    return -1;
}"""


def fenced(code, language="python"):
    return f"```{language}\n{code}\n```"


FAMILIES = {
    "quote": [
        "Repeat the following letter word for word.\n\n" + TEXT_LETTER,
        "Repeat this text exactly, but call the woman Maria instead of Anna.\n\n" + TEXT_STORY,
        "Copy these instructions exactly as they are.\n\n" + TEXT_LIST,
        "Print this table again, unchanged, as CSV.\n\n" + TEXT_TABLE,
        "Write this letter again with the name Mrs Whitfield instead of Mr Harrison.\n\n" + TEXT_LETTER,
        "Repeat this text and replace Peter by John.\n\n" + TEXT_STORY,
        "Write out the following articles again, but replace the word tenant by lessee.\n\n" + TEXT_LAW,
        "Convert this CSV to a Markdown table.\n\n" + TEXT_TABLE,
        "Quote articles 6 and 7 of this contract word for word, then say in one sentence what each of them means.\n\n" + TEXT_LAW,
        "Repeat the steps below as a bulleted list.\n\n" + TEXT_LIST,
    ],
    "edit": [
        "Add a docstring to every method of this class and print the whole file.\n\n" + fenced(CODE_STACK),
        "Rename the variable `items` to `elements` everywhere and print the whole file.\n\n" + fenced(CODE_STACK),
        "Add a method `clear` to this class. Print the complete class.\n\n" + fenced(CODE_STACK),
        "Add type hints to these functions and print the whole file.\n\n" + fenced(CODE_WORDS),
        "Make the number of words a second command line argument. Print the whole program.\n\n" + fenced(CODE_WORDS),
        "`average` fails for an empty list. Fix it and print the whole file.\n\n" + fenced(CODE_GRADES),
        "Add a grade D for scores of at least 60 and print the whole file.\n\n" + fenced(CODE_GRADES),
        "Add a JSDoc comment to every function and print the whole file.\n\n" + fenced(CODE_JS, "javascript"),
        "Support the currency GBP too. Print the whole file.\n\n" + fenced(CODE_JS, "javascript"),
        "Add a function that frees the whole list and print the complete file.\n\n" + fenced(CODE_C, "c"),
    ],
    "maths": [
        "Natalia sold 48 clips in April and half as many in May. How many clips did she sell altogether? Think step by step.",
        "A train travels 180 km in 2 hours and then 120 km in 1.5 hours. What is its average speed? Show each step.",
        "Solve the equation 3x + 7 = 2x + 19 step by step and check the solution.",
        "A rectangle is 12 cm long and its perimeter is 40 cm. Find its area, step by step.",
        "Compute 347 * 26 by long multiplication and explain every step.",
        "Find all prime factors of 1260 step by step.",
        "Solve the system x + y = 10 and 2x - y = 5. Show your work.",
        "A shop gives 20 percent off a 75 dollar jacket and then adds 8 percent tax. What is the final price? Think step by step.",
        "Find the derivative of f(x) = x^3 - 4x^2 + 6x - 2 and the points where it is zero. Show each step.",
        "Compute the greatest common divisor of 252 and 198 with Euclid's algorithm. Show every step.",
        "What is the sum of the first 20 odd numbers? Derive the formula, then compute it.",
        "Tom is twice as old as his sister. In 5 years the sum of their ages will be 40. How old are they now? Show the steps.",
    ],
    "code": [
        "Write a Python function that checks whether a string is a palindrome, with a few tests, and explain it.",
        "Implement binary search in Python and explain how it works.",
        "Write a C++ program that reads numbers and prints their mean and standard deviation.",
        "Write a Python class for a bank account with deposit, withdraw and a history. Then show how to use it.",
        "Write a JavaScript function that groups an array of objects by a key, with an example.",
        "Implement quicksort in C and print the sorted array.",
        "Write SQL statements that create tables for customers, orders and order lines, with foreign keys.",
        "Write a Python script that downloads a list of URLs and saves them to files, with error handling.",
        "Implement a queue with two stacks in Java and explain the running time.",
        "Write unit tests in Python for a function `add(a, b)` that adds numbers and rejects strings.",
        "Write an HTML form with name, email, age and a submit button, with CSS.",
        "Write a Python function for the n-th Fibonacci number, first recursive, then with memoisation, then iterative.",
    ],
    "prose": [
        "Write a short story about a lighthouse keeper.",
        "What should I consider before adopting a dog?",
        "Explain how a refrigerator works to a ten year old.",
        "Describe the history of tea in three paragraphs.",
        "Give five tips for sleeping better.",
        "Compare living in a city with living in the countryside.",
    ],
}

# Where nothing repeats itself: a drafter can only lose here.
RANDOM = [
    "Write a list of 60 random English words, all different, separated by spaces.",
    "Print 80 random numbers between 1000 and 9999, separated by commas.",
    "Write a nonsense poem in which no word occurs twice.",
    "Write 20 random passwords of 16 characters.",
]


def all_prompts():
    """(family, prompt), 50 of them."""
    return [(family, prompt) for family, prompts in FAMILIES.items() for prompt in prompts]
