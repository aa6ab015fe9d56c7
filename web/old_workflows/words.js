/** What is said of an old workflow, by ComfyUI's locale. */

const WORDS = {
  en: {
    title: "Winning Tickets: a workflow of an earlier version",
    moved: "These nodes have other inputs now: width and height became size, and what is rarely set is behind advanced. Their values were moved there:",
    bank: "Ticket Regions takes no bank any more, since it finds that of the node its regions go to. A link was removed from:",
    todo: "Look at these nodes, save the workflow, and export it again where you use it through the API.",
  },
  zh: {
    title: "Winning Tickets：早期版本的工作流",
    moved: "以下节点的输入已改变：宽度和高度改为“尺寸”，很少改动的设置移到“高级设置”之后。其值已移到新的位置：",
    bank: "“彩票区域”不再接收彩票库，它会自行找到其区域所连节点的彩票库。已移除以下节点的一条连线：",
    todo: "请检查这些节点并保存工作流；若通过 API 使用，请重新导出。",
  },
  ja: {
    title: "Winning Tickets：以前のバージョンのワークフロー",
    moved: "次のノードは入力が変わりました。幅と高さは「大きさ」に、めったに変えない設定は「詳細設定」に移りました。値は新しい場所に移してあります：",
    bank: "「チケット領域」はバンクを受け取らなくなり、領域をつないだ先のノードのバンクを自分で見つけます。次のノードからリンクを一つ外しました：",
    todo: "これらのノードを確かめて、ワークフローを保存してください。API で使う場合は、もう一度書き出してください。",
  },
  es: {
    title: "Winning Tickets: un flujo de una versión anterior",
    moved: "Estos nodos tienen ahora otras entradas: ancho y alto pasaron a tamaño, y lo que rara vez se cambia está en avanzado. Sus valores se movieron allí:",
    bank: "Regiones de boletos ya no recibe un banco: encuentra el del nodo al que van sus regiones. Se quitó un enlace de:",
    todo: "Revise estos nodos, guarde el flujo y expórtelo de nuevo si lo usa mediante la API.",
  },
};

/** The words of a locale, English where there are none. */
export function words(locale) {
  return { ...WORDS.en, ...(WORDS[locale] ?? WORDS[locale?.split("-")[0]]) };
}
